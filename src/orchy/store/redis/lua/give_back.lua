-- give_back: attempts that were handed out and did not reach their worker go back to the front of their queues.
--
-- KEYS      for each attempt what its partition's keys begin with
-- ARGV      1 most history entries, then for each its queue entry and when (ms) its timeout is due
-- returns   how many went back; one whose timeout is not set any more has ended, one whose timeout is due is about to
--           (whoever looked has moved it), one of a flow that was removed is nobody's: they are passed over
-- errors    ORCHY: the arguments are wrong; nothing was changed
--- @include "arguments"
--- @include "now"
--- @include "history"
--- @include "queue"
local history_max = whole(1)
for index = 1, #KEYS do
  whole(1 + 2 * index)
end
local now = now_ms()
local stamp = string.format('%.0f ', now)
local given_back = 0
for index = #KEYS, 1, -1 do -- the last one first: so the first one comes to the very front
  local prefix, entry, due = KEYS[index], ARGV[2 * index], whole(1 + 2 * index)
  local flow_id, action_id, attempt, _, name = parse_entry(entry)
  local timer = flow_id and 't:' .. action_id .. ':' .. attempt .. ':' .. flow_id
  local is_there = timer and redis.call('EXISTS', prefix .. 'f:' .. flow_id) == 1
  if is_there and now < due and tonumber(redis.call('ZSCORE', prefix .. 't', timer) or 0) == due then
    redis.call('ZREM', prefix .. 't', timer, 'l' .. string.sub(timer, 2))
    if redis.call('LPUSH', prefix .. 'q:' .. name, entry) == 1 then
      redis.call('SADD', prefix .. 'ready', name)
    end
    local history = prefix .. 'h:' .. flow_id
    local line = stamp .. '["B",' .. action_id .. ',' .. attempt .. ']'
    cap_history(history, redis.call('RPUSH', history, line), history_max)
    given_back = given_back + 1
  end
end
return given_back
