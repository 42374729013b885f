-- scan: takes flows whose timer is due; each timer is set to later, so that a crash makes it late and not lost.
--
-- KEYS      of each partition its anchor (the lease), timers, ready
-- ARGV      1 most flows of a partition, 2 how much (ms) later, 3.. the epochs of the leases
-- returns   for each partition {} (another epoch), or {ms to the next timer or '', actions with work, members}
--- @include "now"
local now = now_ms()
local scans = {}
for number = 1, #KEYS / 3 do
  local own, timers = KEYS[3 * number - 2], KEYS[3 * number - 1]
  if redis.call('HGET', own, 'epoch') ~= ARGV[2 + number] then
    scans[number] = {}
  else
    local due = redis.call('ZRANGEBYSCORE', timers, '-inf', now, 'LIMIT', 0, ARGV[1])
    if #due > 0 then
      local moved = {}
      for i, member in ipairs(due) do
        moved[2 * i - 1] = now + ARGV[2]
        moved[2 * i] = member
      end
      redis.call('ZADD', timers, unpack(moved))
    end
    local first = redis.call('ZRANGE', timers, 0, 0, 'WITHSCORES')
    local next_due = first[2] and string.format('%.0f', math.ceil(first[2] - now)) or ''
    scans[number] = {next_due, redis.call('SMEMBERS', KEYS[3 * number]), due}
  end
end
return scans
