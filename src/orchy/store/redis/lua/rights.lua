-- rights: which of the commands that the other scripts call this user may not run. A script is not rolled back, so a
-- right that is missing must be found before the first one is needed.
--
-- KEYS[1]   what a partition's keys begin with
-- returns   for each command that was refused its name and why, in turn; nothing is left behind
local key = KEYS[1] .. 'rights'
local calls = {
  {'TIME'},
  {'EXISTS', key},
  {'SET', key, '', 'XX', 'PX', 1000},
  {'HSET', key, 'field', '0'},
  {'HSETNX', key, 'field', '0'},
  {'HINCRBY', key, 'field', 1},
  {'HGET', key, 'field'},
  {'HMGET', key, 'field'},
  {'HGETALL', key},
  {'HEXISTS', key, 'field'},
  {'HLEN', key},
  {'HDEL', key, 'field'},
  {'RPUSH', key, ''},
  {'LPUSH', key, ''},
  {'LRANGE', key, 0, 0},
  {'LTRIM', key, 0, -1},
  {'LPOP', key, 2},
  {'SADD', key, ''},
  {'SMEMBERS', key},
  {'SCARD', key},
  {'SREM', key, ''},
  {'ZADD', key, 0, ''},
  {'ZCOUNT', key, 0, 0},
  {'ZRANGE', key, 0, 0},
  {'ZRANGEBYSCORE', key, 0, 0},
  {'ZREVRANGEBYSCORE', key, 0, 0},
  {'ZSCORE', key, ''},
  {'ZREM', key, ''},
  {'UNLINK', key},
}
local refused = {}
for _, call in ipairs(calls) do
  local answer = redis.pcall(unpack(call))
  local why = type(answer) == 'table' and answer.err
  -- Redis and Valkey word it differently from version to version.
  if why and (string.find(why, 'permission') or string.find(why, 'NOPERM') or string.find(why, 'user executing')) then
    refused[#refused + 1] = call[1]
    refused[#refused + 1] = why
  end
end
return refused
