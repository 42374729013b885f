-- claim: hands out attempts of one action, from several partitions in the order given.
--
-- KEYS      what each partition's keys begin with
-- ARGV      1 action, 2 most to hand out, 3 worker as a JSON string, 4 most entries to drop or park on the way,
--           5 most history entries
-- returns   {bodies, indexes of KEYS in which no entry of the action is left}
--
-- An entry counts if its attempt is the running one (`r:<actionId>` begins with `<attempt>:q`). One that does not
-- is dropped; one of a paused flow (`p`) is parked in `k:<flowId>` until the flow is resumed.
--- @include "now"
--- @include "queue"
local action, limit, worker = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local passed_over_max, history_max = tonumber(ARGV[4]), tonumber(ARGV[5])
local now = now_ms()
local stamp = string.format('%.0f ', now)
local bodies, emptied = {}, {}
local passed_over = 0
for index, prefix in ipairs(KEYS) do
  local queue = prefix .. 'q:' .. action
  while #bodies < limit and passed_over < passed_over_max do
    local entry = redis.call('LPOP', queue)
    if not entry then
      break
    end
    local flow_id, action_id, attempt, timeout_ms, _, head_end = parse_entry(entry)
    local running = redis.call('HMGET', prefix .. 'f:' .. flow_id, 'r:' .. action_id, 'p')
    local wanted = attempt .. ':q'
    if not running[1] or string.sub(running[1], 1, #wanted) ~= wanted then
      passed_over = passed_over + 1
    elseif running[2] then
      redis.call('RPUSH', prefix .. 'k:' .. flow_id, entry)
      passed_over = passed_over + 1
    else
      redis.call('ZADD', prefix .. 't', now + timeout_ms, 't:' .. action_id .. ':' .. attempt .. ':' .. flow_id)
      local line = stamp .. '["H",' .. action_id .. ',' .. attempt .. ',' .. worker .. ']'
      if redis.call('RPUSH', prefix .. 'h:' .. flow_id, line) > history_max then
        redis.call('LTRIM', prefix .. 'h:' .. flow_id, -history_max, -1)
      end
      bodies[#bodies + 1] = string.sub(entry, head_end + 1)
    end
  end
  if redis.call('EXISTS', queue) == 0 then
    redis.call('SREM', prefix .. 'ready', action)
    emptied[#emptied + 1] = index
  end
end
return {bodies, emptied}
