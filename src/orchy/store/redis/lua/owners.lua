-- owners: who holds partitions.
--
-- KEYS      what each partition's keys begin with
-- returns   for each partition {} (nobody ever held it) or {node, epoch, ms that are left; 0 after a release}
--- @include "now"
local now = now_ms()
local owners = {}
for index, prefix in ipairs(KEYS) do
  local held = redis.call('HMGET', prefix .. 'own', 'node', 'epoch', 'until')
  if held[1] then
    local left = held[3] == '0' and 0 or tonumber(held[3]) - now
    owners[index] = {held[1], held[2], left}
  else
    owners[index] = {}
  end
end
return owners
