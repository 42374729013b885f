-- expire: removes flows whose retention is over.
--
-- KEYS      what each partition's keys begin with
-- ARGV      1 most flows of a partition, 2 how long (ms) their ids are remembered, 3.. the epochs of the leases; a partition
--           with another epoch is passed over
-- returns   how many were removed
-- errors    ORCHY: the arguments are wrong; nothing was changed
--- @include "arguments"
--- @include "now"
--- @include "index"
local limit, remembered_ms = whole(1), whole(2)
local now = now_ms()
local removed = 0
for index, prefix in ipairs(KEYS) do
  if redis.call('HGET', prefix .. 'own', 'epoch') == ARGV[2 + index] then
    local over = redis.call('ZRANGEBYSCORE', prefix .. 'x', '-inf', now, 'LIMIT', 0, limit)
    for _, member in ipairs(over) do
      local listing, flow_id, workflow = string.match(member, '^([^:]*):([^:]*):(.*)$')
      remove_flow(prefix, flow_id, remembered_ms)
      unlist(prefix, listing, workflow, flow_id)
      redis.call('ZREM', prefix .. 'x', member)
      removed = removed + 1
    end
  end
end
return removed
