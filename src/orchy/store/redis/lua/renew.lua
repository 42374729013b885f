-- renew: prolongs leases that are still the node's. An expired one still is, until another node takes it.
--
-- KEYS      what each partition's keys begin with
-- ARGV      1 node, 2 how long (ms) the leases last from now, 3.. their epochs
-- returns   for each partition 1, or 0 where the lease is another node's or was released
-- errors    ORCHY: the arguments are wrong; nothing was changed
--- @include "arguments"
--- @include "now"
local node, lease_ms = ARGV[1], whole(2)
local now = now_ms()
local kept = {}
for index, prefix in ipairs(KEYS) do
  local held = redis.call('HMGET', prefix .. 'own', 'node', 'epoch', 'until')
  if held[1] == node and held[2] == ARGV[2 + index] and held[3] ~= '0' then
    redis.call('HSET', prefix .. 'own', 'until', now + lease_ms)
    kept[index] = 1
  else
    kept[index] = 0
  end
end
return kept
