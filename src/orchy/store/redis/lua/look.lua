-- look: what is due in partitions, and what there is to hand out.
--
-- KEYS      what each partition's keys begin with
-- ARGV      1 most timers of a partition, 2 how far (ms) a timer that is taken is moved forward, 3.. the epochs
-- returns   for each partition {0 (its epoch is another: nothing was taken)}, or
--           {1, ms until the next timer or '', names with work, timers (member, due ms, member, due ms, ...)}
--
-- A lease that ran out and that nobody has taken is still good: it is epochs that decide.
--- @include "now"
local limit, lease_ms = tonumber(ARGV[1]), tonumber(ARGV[2])
local now = now_ms()
local looks = {}
for index, prefix in ipairs(KEYS) do
  if redis.call('HGET', prefix .. 'own', 'epoch') ~= ARGV[2 + index] then
    looks[index] = {0}
  else
    local timers = prefix .. 't'
    local due = redis.call('ZRANGEBYSCORE', timers, '-inf', now, 'WITHSCORES', 'LIMIT', 0, limit)
    for i = 1, #due, 2 do
      redis.call('ZADD', timers, now + lease_ms, due[i])
    end
    local next_due = ''
    local first = redis.call('ZRANGE', timers, 0, 0, 'WITHSCORES')
    if first[2] then
      next_due = string.format('%.0f', tonumber(first[2]) - now)
    end
    looks[index] = {1, next_due, redis.call('SMEMBERS', prefix .. 'ready'), due, string.format('%.0f', now)}
  end
end
return looks
