-- renew_attempts: timers that are set are due no sooner than so long from now.
--
-- KEYS[1]   what the partition's keys begin with
-- ARGV      1 ms from now, 2.. members
-- returns   for each member 1, or 0: there is none
-- errors    ORCHY: the arguments are wrong; nothing was changed
--
-- None is moved back, and each is moved, by a millisecond at least: one that was taken (scan) is not as it was then.
--- @include "arguments"
--- @include "now"
local timers, lease_ms = KEYS[1] .. 't', whole(1)
local _, soonest = now_ms()
local found = {}
for i = 2, #ARGV do
  local due = tonumber(redis.call('ZSCORE', timers, ARGV[i]) or nil)
  found[i - 1] = due and 1 or 0
  if due then
    redis.call('ZADD', timers, math.max(soonest + lease_ms, math.floor(due) + 1), ARGV[i])
  end
end
return found
