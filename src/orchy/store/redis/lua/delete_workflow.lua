-- delete_workflow: lets no new flow start on it; versions stay for the flows that run on them.
--
-- KEYS      1 the workflow's hash, 2 the set of names
-- ARGV      1 name
-- returns   1, or 0 if there was none
if redis.call('HDEL', KEYS[1], 'latest') == 0 then
  return 0
end
redis.call('SREM', KEYS[2], ARGV[1])
return 1
