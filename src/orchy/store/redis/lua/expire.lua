-- expire: removes flows whose retention is over.
--
-- KEYS      what each partition's keys begin with
-- ARGV      1 most flows of a partition, 2.. the epochs of the leases; a partition with another epoch is passed over
-- returns   how many were removed
-- errors    ORCHY: the arguments are wrong; nothing was changed
--- @include "arguments"
--- @include "now"
--- @include "index"
local limit = whole(1)
local now = now_ms()
local removed = 0
for index, prefix in ipairs(KEYS) do
  if redis.call('HGET', prefix .. 'own', 'epoch') == ARGV[1 + index] then
    local over = redis.call('ZRANGEBYSCORE', prefix .. 'x', '-inf', now, 'LIMIT', 0, limit)
    for _, member in ipairs(over) do
      local listing, flow_id, workflow = string.match(member, '^([^:]*):([^:]*):(.*)$')
      remove_flow(prefix, flow_id)
      unlist(prefix, listing, workflow, flow_id)
      redis.call('ZREM', prefix .. 'x', member)
      removed = removed + 1
    end
  end
end
return removed
