-- save_workflow: keeps a definition, in a new version if it differs from the newest.
--
-- KEYS      1 the workflow's hash, 2 the set of names, 3 the set of names that there ever were
-- ARGV      1 name, 2 text, 3 most names, 4 most versions of one, 5 most bytes of these
-- returns   {version, 1 if it is new}, or {-1, number of the argument whose limit is reached}: nothing was changed
-- errors    ORCHY: the arguments are wrong; nothing was changed
--
-- Names that were saved before there was the third set are counted by the second one.
--- @include "arguments"
local names_max, versions_max, bytes_max = whole(3), whole(4), whole(5)
local found = redis.call('HMGET', KEYS[1], 'latest', 'last', 'bytes')
local latest, last, bytes = found[1], found[2], tonumber(found[3] or 0) + #ARGV[2]
if latest and redis.call('HGET', KEYS[1], latest) == ARGV[2] then
  return {tonumber(latest), 0}
end
if not last and math.max(redis.call('SCARD', KEYS[2]), redis.call('SCARD', KEYS[3])) >= names_max then
  return {-1, 3}
elseif tonumber(last or 0) >= versions_max then
  return {-1, 4}
elseif bytes > bytes_max then
  return {-1, 5}
end
local version = redis.call('HINCRBY', KEYS[1], 'last', 1)
redis.call('HSET', KEYS[1], 'latest', version, version, ARGV[2], 'bytes', bytes)
redis.call('SADD', KEYS[2], ARGV[1])
redis.call('SADD', KEYS[3], ARGV[1])
return {version, 1}
