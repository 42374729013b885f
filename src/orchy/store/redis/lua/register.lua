-- register: a process says that it serves the namespace. It has its name for as long as it says so.
--
-- KEYS[1]   the hash of nodes: "<until ms> <instance> <address>" by name
-- ARGV      1 name, 2 instance, 3 address, 4 how long (ms)
-- returns   {name, instance, address, remaining ms} of each whose time is not over; if another instance at another
--           address holds the name, it is that one, and nothing was changed
-- errors    ORCHY: the arguments are wrong; nothing was changed
--- @include "arguments"
--- @include "now"
local name, instance, address, lease_ms = ARGV[1], ARGV[2], ARGV[3], whole(4)
local now = now_ms()
local nodes, mine = {}, true
local all = redis.call('HGETALL', KEYS[1])
for index = 1, #all, 2 do
  local till, its_instance, its_address = string.match(all[index + 1], '^(%d+) (%S+) (%S+)$')
  local left = till and tonumber(till) - now or 0
  if left <= 0 then
    redis.call('HDEL', KEYS[1], all[index])
  elseif all[index] ~= name then
    nodes[#nodes + 1] = {all[index], its_instance, its_address, left}
  elseif its_instance ~= instance and its_address ~= address then
    mine = false
    nodes[#nodes + 1] = {name, its_instance, its_address, left}
  end
end
if mine then
  redis.call('HSET', KEYS[1], name, string.format('%.0f %s %s', now + lease_ms, instance, address))
  nodes[#nodes + 1] = {name, instance, address, lease_ms}
end
return nodes
