-- settings: what is fixed when a namespace is first used.
--
-- KEYS[1]   the settings' hash
-- ARGV      1 partitions, 2 format version: what they become if there are none
-- returns   {partitions, format version}
if redis.call('HSETNX', KEYS[1], 'partitions', ARGV[1]) == 1 then
  redis.call('HSET', KEYS[1], 'format', ARGV[2])
end
return redis.call('HMGET', KEYS[1], 'partitions', 'format')
