-- Calls `command` with `key` and ARGV[first .. last], in batches that Lua's stack can hold (8,000 values). The batch is
-- even, so that names and values stay together.
local function call_in_batches(command, key, first, last)
  for start = first, last, 1000 do
    redis.call(command, key, unpack(ARGV, start, math.min(start + 999, last)))
  end
end
