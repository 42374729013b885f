-- scan: what is due in partitions, and what there is to hand out.
--
-- KEYS      what each partition's keys begin with
-- ARGV      1 most timers of a partition, 2 how far (ms) a timer that is taken is moved forward, 3.. the epochs
-- returns   for each partition {0 (its epoch is another: nothing was taken)}, or
--           {1, ms until the next timer or '', names with work, timers (member, due ms, member, due ms, ...), now}
-- errors    ORCHY: the arguments are wrong; nothing was changed
--
-- A timer that is taken is due again at a time with half a millisecond, and a call that moves it meanwhile sets it to a
-- whole one: so a commit that handles it sees whether it is still as it was taken.
-- Timers of flows in quarantine are set aside.
-- An expired lease that no other node has taken is still good: epochs decide.
--- @include "arguments"
--- @include "now"
--- @include "quarantine"
local limit, lease_ms = whole(1), whole(2)
local now = now_ms()
local scans = {}
for index, prefix in ipairs(KEYS) do
  if redis.call('HGET', prefix .. 'own', 'epoch') ~= ARGV[2 + index] then
    scans[index] = {0}
  else
    local timers = prefix .. 't'
    local due = {}
    local first = redis.call('ZRANGE', timers, 0, 0, 'WITHSCORES')
    if first[2] and tonumber(first[2]) <= now then
      due = redis.call('ZRANGEBYSCORE', timers, '-inf', now, 'WITHSCORES', 'LIMIT', 0, limit)
      due = set_aside(prefix, due)
      for i = 1, #due, 2 do
        redis.call('ZADD', timers, now + lease_ms - 0.5, due[i])
      end
      first = redis.call('ZRANGE', timers, 0, 0, 'WITHSCORES')
    end
    local next_due = first[2] and string.format('%.0f', math.ceil(tonumber(first[2]) - now)) or ''
    scans[index] = {1, next_due, redis.call('SMEMBERS', prefix .. 'ready'), due, now}
  end
end
return scans
