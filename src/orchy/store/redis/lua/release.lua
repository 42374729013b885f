-- release: gives up leases that are still the node's. The epoch stays, so that the next owner's is higher.
--
-- KEYS      what each partition's keys begin with
-- ARGV      1 node, 2.. the epochs
-- returns   nothing; `until` of a released lease is 0
for index, prefix in ipairs(KEYS) do
  local held = redis.call('HMGET', prefix .. 'own', 'node', 'epoch')
  if held[1] == ARGV[1] and held[2] == ARGV[1 + index] then
    redis.call('HSET', prefix .. 'own', 'until', 0)
  end
end
