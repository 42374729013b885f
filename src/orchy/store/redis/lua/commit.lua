-- commit: one transition of one flow, if it is still at the version that it was made for.
--
-- KEYS[1]   what the partition's keys begin with
-- ARGV      1 flow id, 2 workflow, 3 expected version (0: the flow is not there), 4 where it is listed before
--           ('' for a start), 5 and after, 6 retention in ms ('' while it goes on; 0: remove it now),
--           7 '1': put parked entries back,
--           8-14 how many of each follow: fields, removed fields, history, queue, timers set, timers cancelled, timers
--           handled; then fields (name, value), removed fields (name), history (entry), attempts for workers (either
--           '', 0, action, queue entry: into the queue; or, handed out now: history entry, the worker's lease in ms or
--           0, the timeout in ms, the timer's member without its kind), timers set (ms from now, member), timers
--           cancelled (member; a timeout takes the lease of its attempt along), timers handled (member)
-- returns   {version, now, actions whose entries were put back, the ms that timeouts are counted from},
--           or {-1, version found}, or {-2, timers handled that are not as they were taken}: nothing was changed
-- errors    ORCHY: the arguments are wrong; nothing was changed
--
-- A flow that is removed with this commit leaves only its id, for a while: what the commit would enqueue or set is
-- passed over.
--- @include "arguments"
--- @include "now"
--- @include "batches"
--- @include "history"
--- @include "history_bytes"
--- @include "queue"
--- @include "timers"
--- @include "index"
--- @include "quarantine"
local prefix, flow_id, workflow = KEYS[1], ARGV[1], ARGV[2]
local expected, was, listed = whole(3), ARGV[4], ARGV[5]
local retain_ms = ARGV[6] ~= '' and whole(6)
local first_field = 15
local first_removed = first_field + 2 * ARGV[8]
local first_entry = first_removed + ARGV[9]
local first_queued = first_entry + ARGV[10]
local first_timer = first_queued + 4 * ARGV[11]
local first_cancelled = first_timer + 2 * ARGV[12]
local first_fired = first_cancelled + ARGV[13]
local last = first_fired + ARGV[14] - 1
if last ~= #ARGV then -- so the counts are numbers and add up; NaN equals nothing
  return redis.error_reply('ORCHY the counts do not fit the arguments of commit')
end
for i = first_timer, first_cancelled - 1, 2 do
  whole(i)
end
for i = first_queued, first_timer - 1, 4 do
  if ARGV[i] ~= '' then
    whole(i + 1)
    whole(i + 2)
  end
end

local flow = prefix .. 'f:' .. flow_id
local found = redis.call('HMGET', flow, 'v', 'c', 'p', 'u')
local version, created, was_paused = tonumber(found[1] or 0), found[2], found[3]
if version ~= expected or version == 0 and is_remembered(prefix, flow_id) then
  return {-1, version}
end
if first_fired <= last then
  local moved = {}
  for i = first_fired, last do
    local due = tonumber(redis.call('ZSCORE', prefix .. 't', ARGV[i]) or nil)
    if not due or due % 1 == 0 then -- see scan
      moved[#moved + 1] = ARGV[i]
    end
  end
  if #moved > 0 then
    return {-2, moved}
  end
end

-- From here on nothing can fail: a script is not rolled back.
local now, soonest = now_ms()
cancel_timers(prefix, ARGV, first_cancelled, first_fired - 1)
if retain_ms and found[4] then -- what is over needs no quarantine
  unquarantine(prefix, flow_id)
end
if retain_ms == 0 then
  remove_flow(prefix, flow_id)
  if was ~= '' then
    unlist(prefix, was, workflow, flow_id)
    redis.call('ZREM', prefix .. 'x', retained(was, flow_id, workflow))
  end
  return {version + 1, now, {}, soonest}
end

version = version + 1
local written = {'v', version}
if was == '' then
  created = now
  written[3], written[4] = 'c', now
end
if retain_ms then
  written[#written + 1] = 'z'
  written[#written + 1] = now
end
if first_removed - first_field <= 1000 then -- nearly always: all fields with one call
  for i = first_field, first_removed - 1 do
    written[#written + 1] = ARGV[i]
  end
else
  call_in_batches('HSET', flow, first_field, first_removed - 1)
end
redis.call('HSET', flow, unpack(written))
call_in_batches('HDEL', flow, first_removed, first_entry - 1)

if was ~= listed then
  if was == '' then
    redis.call('SADD', prefix .. 'names', workflow)
  else
    redis.call('ZREM', prefix .. 'i:' .. was .. ':' .. workflow, flow_id)
  end
  redis.call('ZADD', prefix .. 'i:' .. listed .. ':' .. workflow, created, flow_id)
end
if retain_ms then
  redis.call('ZADD', prefix .. 'x', now + retain_ms, retained(listed, flow_id, workflow))
  if was_paused then -- nothing is parked otherwise: resuming puts all of it back
    redis.call('UNLINK', prefix .. 'k:' .. flow_id)
  end
end

local stamp, lines, long_bytes = string.format('%.0f ', now), {}, 0
for i = first_entry, first_queued - 1 do
  local entry = ARGV[i]
  if #entry > @LONG_ENTRY_BYTES@ then
    long_bytes = long_bytes + #entry
  end
  lines[#lines + 1] = stamp .. entry
end
for i = first_queued, first_timer - 1, 4 do
  if ARGV[i] == '' then
    push_entry(prefix, ARGV[i + 2], ARGV[i + 3])
  else
    set_attempt_timers(prefix, ARGV[i + 3], tonumber(ARGV[i + 2]), tonumber(ARGV[i + 1]), soonest)
    lines[#lines + 1] = stamp .. ARGV[i]
  end
end
if #lines > 0 then
  local history, length = prefix .. 'h:' .. flow_id, 0
  for start = 1, #lines, 1000 do
    length = redis.call('RPUSH', history, unpack(lines, start, math.min(start + 999, #lines)))
  end
  cap_history(history, length)
  if long_bytes > 0 and redis.call('HINCRBY', flow, 'b', long_bytes) > @HISTORY_BYTES_MAX@ then
    redis.call('HSET', flow, 'b', cut_history(history, math.floor(@HISTORY_BYTES_MAX@ / 4) * 3))
  end
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
return {version, now, unparked, soonest}
