-- quarantine: timers of a flow that can't be moved do not come back until it is released.
--
-- KEYS[1]   what the partition's keys begin with
-- ARGV      1 flow id, 2 why, 3 history entry
-- returns   1, or 0: there is no such flow, or it is over or in quarantine; nothing was changed
--- @include "now"
--- @include "history"
local prefix, flow_id = KEYS[1], ARGV[1]
local flow = prefix .. 'f:' .. flow_id
local found = redis.call('HMGET', flow, 'c', 'z', 'u')
if not found[1] or found[2] or found[3] then
  return 0
end
local now = now_ms()
local stamp = string.format('%.0f ', now)
redis.call('HSET', flow, 'u', stamp .. ARGV[2])
redis.call('ZADD', prefix .. 'u', found[1], flow_id)
local history = prefix .. 'h:' .. flow_id
cap_history(history, redis.call('RPUSH', history, stamp .. ARGV[3]))
return 1
