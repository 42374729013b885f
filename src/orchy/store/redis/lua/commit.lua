-- commit: one transition of one flow, if it is still at the version that it was made for.
--
-- KEYS[1]   what the partition's keys begin with
-- ARGV      1 flow id, 2 workflow, 3 expected version (0: the flow is not there), 4 where it is listed before
--           ('' for a start), 5 and after, 6 retention in ms ('' while it goes on; 0: remove it now),
--           7 '1': put parked entries back, 8 most history entries,
--           9-14 how many of each follow: fields, removed fields, history, queue, timers set, timers cancelled;
--           then fields (name, value), removed fields (name), history (entry), queue (action, entry),
--           timers set (ms from now, member), timers cancelled (member)
-- returns   {version, now, actions whose entries were put back}, or {-1, version found}: nothing was changed
--
--- @include "now"
--- @include "batches"
--- @include "queue"
--- @include "index"
local prefix, flow_id, workflow = KEYS[1], ARGV[1], ARGV[2]
local expected, was, listed = tonumber(ARGV[3]), ARGV[4], ARGV[5]
local retain_ms = tonumber(ARGV[6])
local history_max = tonumber(ARGV[8])
local fields, removed, entries = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local queued, timers, cancelled = tonumber(ARGV[12]), tonumber(ARGV[13]), tonumber(ARGV[14])
local first_field = 15
local first_removed = first_field + 2 * fields
local first_entry = first_removed + removed
local first_queued = first_entry + entries
local first_timer = first_queued + 2 * queued
local first_cancelled = first_timer + 2 * timers
if first_cancelled + cancelled - 1 ~= #ARGV then
  return redis.error_reply('ORCHY the counts do not fit the arguments of commit')
end
local delays = {}
for i = 1, timers do
  delays[i] = tonumber(ARGV[first_timer + 2 * (i - 1)])
  if not delays[i] then
    return redis.error_reply('ORCHY a timer is not a number of milliseconds')
  end
end

local flow = prefix .. 'f:' .. flow_id
local version = tonumber(redis.call('HGET', flow, 'v') or 0)
if version ~= expected then
  return {-1, version}
end

-- From here on nothing can fail: a script is not rolled back.
local now = now_ms()
local timer_key = prefix .. 't'
if cancelled > 0 then
  call_in_batches('ZREM', timer_key, first_cancelled, cancelled, 1)
end
local unparked = {}
if retain_ms == 0 then
  remove_flow(prefix, flow_id)
  if was ~= '' then
    unlist(prefix, was, workflow, flow_id)
  end
  return {version + 1, now, unparked}
end

if fields > 0 then
  call_in_batches('HSET', flow, first_field, 2 * fields, 2)
end
if removed > 0 then
  call_in_batches('HDEL', flow, first_removed, removed, 1)
end
if expected == 0 then
  redis.call('HSET', flow, 'v', 1, 'c', now)
else
  redis.call('HSET', flow, 'v', version + 1)
end

if was ~= listed then
  local created = now
  if was ~= '' then
    created = redis.call('HGET', flow, 'c')
    redis.call('ZREM', prefix .. 'i:' .. was .. ':' .. workflow, flow_id)
  else
    redis.call('SADD', prefix .. 'names', workflow)
  end
  redis.call('ZADD', prefix .. 'i:' .. listed .. ':' .. workflow, created, flow_id)
end
if retain_ms then
  redis.call('HSET', flow, 'z', now)
  redis.call('ZADD', prefix .. 'x', now + retain_ms, listed .. ':' .. flow_id .. ':' .. workflow)
  redis.call('UNLINK', prefix .. 'k:' .. flow_id)
end

if entries > 0 then
  local history = prefix .. 'h:' .. flow_id
  local length = 0
  for i = first_entry, first_entry + entries - 1 do
    length = redis.call('RPUSH', history, string.format('%.0f ', now) .. ARGV[i])
  end
  if length > history_max then
    redis.call('LTRIM', history, -history_max, -1)
  end
end
for i = first_queued, first_queued + 2 * queued - 1, 2 do
  push_entry(prefix, ARGV[i], ARGV[i + 1])
end
for i = 1, timers do
  redis.call('ZADD', timer_key, now + delays[i], ARGV[first_timer + 2 * i - 1])
end
if ARGV[7] == '1' then
  local parked = prefix .. 'k:' .. flow_id
  for _, entry in ipairs(redis.call('LRANGE', parked, 0, -1)) do
    local _, _, _, _, name = parse_entry(entry)
    push_entry(prefix, name, entry)
    unparked[#unparked + 1] = name
  end
  redis.call('UNLINK', parked)
end
return {version + 1, now, unparked}
