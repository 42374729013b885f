-- release_flow: ends a quarantine; the timers that were set aside are due now.
--
-- KEYS[1]   what the partition's keys begin with
-- ARGV      1 flow id, 2 history entry
-- returns   1, or 0: it is not in quarantine, or -1: there is no such flow; nothing was changed
--- @include "now"
--- @include "history"
--- @include "quarantine"
local prefix, flow_id = KEYS[1], ARGV[1]
local found = redis.call('HMGET', prefix .. 'f:' .. flow_id, 'c', 'u')
if not found[1] then
  return -1
elseif not found[2] then
  return 0
end
local now = now_ms()
for _, timer in ipairs(redis.call('SMEMBERS', prefix .. 'a:' .. flow_id)) do
  redis.call('ZADD', prefix .. 't', 'NX', now, timer) -- one that was set anew meanwhile stays as it is
end
unquarantine(prefix, flow_id)
local history = prefix .. 'h:' .. flow_id
cap_history(history, redis.call('RPUSH', history, string.format('%.0f ', now) .. ARGV[2]))
return 1
