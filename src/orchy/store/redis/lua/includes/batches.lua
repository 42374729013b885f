-- Calls `command` with `key` and ARGV[first .. first + count - 1], in batches that Lua's stack can hold.
-- `step` keeps what belongs together in one batch.
local function call_in_batches(command, key, first, count, step)
  local size = 1000 * step
  local last = first + count - 1
  for start = first, last, size do
    redis.call(command, key, unpack(ARGV, start, math.min(start + size - 1, last)))
  end
end
