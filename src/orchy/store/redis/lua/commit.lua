-- commit: one transition of one flow, if it is still at the version that it was made for.
--
-- KEYS[1]   what the partition's keys begin with
-- ARGV      1 flow id, 2 workflow, 3 expected version (0: the flow is not there), 4 where it is listed before
--           ('' for a start), 5 and after, 6 retention in ms ('' while it goes on; 0: remove it now),
--           7 '1': put parked entries back, 8 most history entries, 9 how long (ms) a removed flow's id is remembered,
--           10-15 how many of each follow: fields, removed fields, history, queue, timers set, timers cancelled;
--           then fields (name, value), removed fields (name), history (entry), queue (action, entry),
--           timers set (ms from now, member), timers cancelled (member)
-- returns   {version, now, actions whose entries were put back}, or {-1, version found}: nothing was changed
-- errors    ORCHY: the arguments are wrong; nothing was changed
--
-- A flow that is removed with this commit leaves its id, for a while: what the commit would enqueue or set is passed over.
--- @include "arguments"
--- @include "now"
--- @include "batches"
--- @include "history"
--- @include "queue"
--- @include "index"
local prefix, flow_id, workflow = KEYS[1], ARGV[1], ARGV[2]
local expected, was, listed = whole(3), ARGV[4], ARGV[5]
local retain_ms = ARGV[6] ~= '' and whole(6)
local history_max = whole(8)
local remembered_ms = whole(9)
local first_field = 16
local first_removed = first_field + 2 * ARGV[10]
local first_entry = first_removed + ARGV[11]
local first_queued = first_entry + ARGV[12]
local first_timer = first_queued + 2 * ARGV[13]
local first_cancelled = first_timer + 2 * ARGV[14]
local last = first_cancelled + ARGV[15] - 1
if last ~= #ARGV then -- so that the counts are numbers and fit; NaN is like nothing
  return redis.error_reply('ORCHY the counts do not fit the arguments of commit')
end
for i = first_timer, first_cancelled - 1, 2 do
  whole(i)
end

local flow = prefix .. 'f:' .. flow_id
local version = tonumber(redis.call('HGET', flow, 'v') or 0)
if version ~= expected or version == 0 and is_remembered(prefix, flow_id) then
  return {-1, version}
end

-- From here on nothing can fail: a script is not rolled back.
local now, soonest = now_ms()
call_in_batches('ZREM', prefix .. 't', first_cancelled, last)
if retain_ms == 0 then
  remove_flow(prefix, flow_id, remembered_ms)
  if was ~= '' then
    unlist(prefix, was, workflow, flow_id)
    redis.call('ZREM', prefix .. 'x', retained(was, flow_id, workflow))
  end
  return {version + 1, now, {}}
end

version = version + 1
if first_removed - first_field <= 1000 then -- nearly always: version and fields with one call
  redis.call('HSET', flow, 'v', version, unpack(ARGV, first_field, first_removed - 1))
else
  redis.call('HSET', flow, 'v', version)
  call_in_batches('HSET', flow, first_field, first_removed - 1)
end
call_in_batches('HDEL', flow, first_removed, first_entry - 1)

if was ~= listed then
  local created = now
  if was == '' then
    redis.call('HSET', flow, 'c', now)
    redis.call('SADD', prefix .. 'names', workflow)
  else
    created = redis.call('HGET', flow, 'c')
    redis.call('ZREM', prefix .. 'i:' .. was .. ':' .. workflow, flow_id)
  end
  redis.call('ZADD', prefix .. 'i:' .. listed .. ':' .. workflow, created, flow_id)
end
if retain_ms then
  redis.call('HSET', flow, 'z', now)
  redis.call('ZADD', prefix .. 'x', now + retain_ms, retained(listed, flow_id, workflow))
  redis.call('UNLINK', prefix .. 'k:' .. flow_id)
end

if first_entry < first_queued then
  local history, stamp, length = prefix .. 'h:' .. flow_id, string.format('%.0f ', now), 0
  for start = first_entry, first_queued - 1, 1000 do
    local lines = {}
    for i = start, math.min(start + 999, first_queued - 1) do
      lines[#lines + 1] = stamp .. ARGV[i]
    end
    length = redis.call('RPUSH', history, unpack(lines))
  end
  cap_history(history, length, history_max)
end
for i = first_queued, first_timer - 1, 2 do
  push_entry(prefix, ARGV[i], ARGV[i + 1])
end
for i = first_timer, first_cancelled - 1, 2 do
  local after_ms = tonumber(ARGV[i])
  redis.call('ZADD', prefix .. 't', after_ms == 0 and now or soonest + after_ms, ARGV[i + 1])
end
local unparked = {}
if ARGV[7] == '1' then
  local parked = prefix .. 'k:' .. flow_id
  for _, entry in ipairs(redis.call('LRANGE', parked, 0, -1)) do
    local _, _, _, _, name = parse_entry(entry)
    push_entry(prefix, name, entry)
    unparked[#unparked + 1] = name
  end
  redis.call('UNLINK', parked)
end
return {version, now, unparked}
