-- last_hand_out: to whom an attempt was handed out last.
--
-- KEYS[1]   what the partition's keys begin with
-- ARGV      1 flow id, 2 what the line of history begins with, after its time
-- returns   {line, ms since then}, or nothing: the history has no such line
--
-- Reads the history from its end, a thousand lines at a time.
--- @include "now"
local history, wanted = KEYS[1] .. 'h:' .. ARGV[1], ARGV[2]
local last = -1
while true do
  local lines = redis.call('LRANGE', history, last - 999, last)
  for i = #lines, 1, -1 do
    local stamp, entry = string.match(lines[i], '^(%d+) (.*)$')
    if entry and string.sub(entry, 1, #wanted) == wanted then
      return {entry, math.max(0, now_ms() - tonumber(stamp))}
    end
  end
  if #lines < 1000 then
    return false
  end
  last = last - 1000
end
