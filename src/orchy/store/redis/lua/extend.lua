-- extend: a timer that is set and not due is due so long from now instead.
--
-- KEYS[1]   what the partition's keys begin with
-- ARGV      1 member, 2 ms from now
-- returns   1, or 0: there is none, or it is due. One that was taken counts as not due until it is due again
-- errors    ORCHY: the arguments are wrong; nothing was changed
--- @include "arguments"
--- @include "now"
local timers, member, after_ms = KEYS[1] .. 't', ARGV[1], whole(2)
local now, soonest = now_ms()
local due = tonumber(redis.call('ZSCORE', timers, member) or 0)
if due <= now then
  return 0
end
redis.call('ZADD', timers, soonest + after_ms, member)
return 1
