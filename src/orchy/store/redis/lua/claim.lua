-- claim: hands out attempts of one action, from several partitions in the order given.
--
-- KEYS      what each partition's keys begin with
-- ARGV      1 action, 2 most to hand out, 3 worker as a JSON string, 4 most entries to drop or park on the way,
--           5 bytes of bodies after which it stops, 6 the worker's lease (ms; 0: it has none)
-- returns   {bodies, indexes of KEYS in which no entry of the action is left, head of each body's entry, index of KEYS
--           where it was, the ms that each one's timeout is counted from}
-- errors    ORCHY: the arguments are wrong; nothing was changed
--
-- An entry counts if its attempt is the running one (`r:<actionId>` begins with `<attempt>:q`). One that does not
-- is dropped; one of a paused flow (`p`) is parked in `k:<flowId>` until the flow is resumed.
--- @include "arguments"
--- @include "now"
--- @include "history"
--- @include "queue"
local action, limit, worker = ARGV[1], whole(2), ARGV[3]
local passed_over_max, bytes_max, lease_ms = whole(4), whole(5), whole(6)
local now, soonest = now_ms()
local stamp = string.format('%.0f ', now)
local bodies, emptied, heads, places = {}, {}, {}, {}
local passed_over, bytes = 0, 0
for index, prefix in ipairs(KEYS) do
  if #bodies >= limit or passed_over >= passed_over_max or bytes >= bytes_max then
    break
  end
  local queue = prefix .. 'q:' .. action
  local timers = {}
  local popped = redis.call('LPOP', queue, limit - #bodies) or {}
  while #popped > 0 do
    for place, entry in ipairs(popped) do
      if passed_over >= passed_over_max or bytes >= bytes_max then -- the rest stays in front
        for back = #popped, place, -1 do
          redis.call('LPUSH', queue, popped[back])
        end
        break
      end
      local flow_id, action_id, attempt, timeout_ms, _, body_at = parse_entry(entry)
      local running, paused = false, false
      if flow_id then
        local fields = redis.call('HMGET', prefix .. 'f:' .. flow_id, 'r:' .. action_id, 'p')
        local wanted = attempt .. ':q'
        running, paused = fields[1] and string.sub(fields[1], 1, #wanted) == wanted, fields[2]
      end
      if not running then
        passed_over = passed_over + 1
      elseif paused then
        redis.call('RPUSH', prefix .. 'k:' .. flow_id, entry)
        passed_over = passed_over + 1
      else
        local member = ':' .. action_id .. ':' .. attempt .. ':' .. flow_id
        timers[#timers + 1] = soonest + timeout_ms
        timers[#timers + 1] = 't' .. member
        if lease_ms > 0 and timeout_ms > lease_ms then
          timers[#timers + 1] = soonest + lease_ms
          timers[#timers + 1] = 'l' .. member
        end
        local history = prefix .. 'h:' .. flow_id
        local line = stamp .. '["H",' .. action_id .. ',' .. attempt .. ',' .. worker .. ']'
        cap_history(history, redis.call('RPUSH', history, line))
        local body = string.sub(entry, body_at)
        bodies[#bodies + 1] = body
        heads[#bodies] = string.sub(entry, 1, body_at - 1)
        places[#bodies] = index
        bytes = bytes + #body
      end
    end
    if #bodies >= limit or passed_over >= passed_over_max or bytes >= bytes_max then
      break
    end
    popped = redis.call('LPOP', queue, limit - #bodies) or {}
  end
  if #timers > 0 then
    redis.call('ZADD', prefix .. 't', unpack(timers))
  end
  if redis.call('EXISTS', queue) == 0 then
    redis.call('SREM', prefix .. 'ready', action)
    emptied[#emptied + 1] = index
  end
end
return {bodies, emptied, heads, places, soonest}
