-- acquire: takes leases that are free, released, expired, already the node's or held by a node that is named; each
-- epoch rises by one.
--
-- KEYS      what each partition's keys begin with
-- ARGV      1 node, 2 how long (ms) the leases last, 3.. nodes that are gone: what they hold is taken, too
-- returns   for each partition its epoch, or 0 where another node holds the lease
-- errors    ORCHY: the arguments are wrong; nothing was changed
--- @include "arguments"
--- @include "now"
local node, lease_ms = ARGV[1], whole(2)
local takes_from = {[node] = true}
for position = 3, #ARGV do
  takes_from[ARGV[position]] = true
end
local now = now_ms()
local epochs = {}
for index, prefix in ipairs(KEYS) do
  local own = prefix .. 'own'
  local held = redis.call('HMGET', own, 'node', 'epoch', 'until')
  if held[1] and not takes_from[held[1]] and tonumber(held[3]) > now then
    epochs[index] = 0
  else
    local epoch = tonumber(held[2] or 0) + 1
    redis.call('HSET', own, 'node', node, 'epoch', epoch, 'until', now + lease_ms)
    epochs[index] = epoch
  end
end
return epochs
