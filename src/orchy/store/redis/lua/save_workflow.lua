-- save_workflow: keeps a definition, in a new version if it differs from the newest.
--
-- KEYS      1 the workflow's hash, 2 the set of names
-- ARGV      1 name, 2 text
-- returns   {version, 1 if it is new}
local latest = redis.call('HGET', KEYS[1], 'latest')
if latest and redis.call('HGET', KEYS[1], latest) == ARGV[2] then
  return {tonumber(latest), 0}
end
local version = redis.call('HINCRBY', KEYS[1], 'last', 1)
redis.call('HSET', KEYS[1], 'latest', version, version, ARGV[2])
redis.call('SADD', KEYS[2], ARGV[1])
return {version, 1}
