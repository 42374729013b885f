-- give_back: attempts that were handed out and did not reach their worker go back to the front of their queues.
--
-- KEYS      for each attempt what its partition's keys begin with
-- ARGV      for each attempt its queue entry and when (ms) its timeout is due
-- returns   how many went back. Passed over are one whose timeout is not set any more (it has ended), one whose timeout
--           is due (it is about to end; the scan that took it has moved it), and one of a flow that was removed
-- errors    ORCHY: the arguments are wrong; nothing was changed
--- @include "arguments"
--- @include "now"
--- @include "history"
--- @include "queue"
--- @include "timers"
for index = 1, #KEYS do
  whole(2 * index)
end
local now = now_ms()
local stamp = string.format('%.0f ', now)
local given_back = 0
for index = #KEYS, 1, -1 do -- from the last one on, so that the first one ends up in front
  local prefix, entry, due = KEYS[index], ARGV[2 * index - 1], whole(2 * index)
  local flow_id, action_id, attempt, _, name = parse_entry(entry)
  local timer = flow_id and 't:' .. action_id .. ':' .. attempt .. ':' .. flow_id
  local is_there = timer and redis.call('EXISTS', prefix .. 'f:' .. flow_id) == 1
  if is_there and now < due and tonumber(redis.call('ZSCORE', prefix .. 't', timer) or 0) == due then
    cancel_timers(prefix, {timer}, 1, 1)
    if redis.call('LPUSH', prefix .. 'q:' .. name, entry) == 1 then
      redis.call('SADD', prefix .. 'ready', name)
    end
    local history = prefix .. 'h:' .. flow_id
    local line = stamp .. '["B",' .. action_id .. ',' .. attempt .. ']'
    cap_history(history, redis.call('RPUSH', history, line))
    given_back = given_back + 1
  end
end
return given_back
