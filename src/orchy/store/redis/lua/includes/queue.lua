-- A queue entry is `<flowId>:<actionId>:<attempt>:<timeoutMs>:<action name>\n<body>`. Nothing if it is none.
local function parse_entry(entry)
  local flow_id, action_id, attempt, timeout_ms, name, body_at =
    string.match(entry, '^([^:\n]*):(%-?%d+):(%d+):(%d+):([^\n]*)\n()')
  return flow_id, action_id, attempt, tonumber(timeout_ms), name, body_at
end

local function push_entry(prefix, name, entry)
  if redis.call('RPUSH', prefix .. 'q:' .. name, entry) == 1 then
    redis.call('SADD', prefix .. 'ready', name)
  end
end

-- Sets the timers of an attempt that is handed out now: its timeout and, where that is further off than the worker's
-- lease, the end of the lease. `member` is theirs without the kind.
local function set_attempt_timers(prefix, member, timeout_ms, lease_ms, soonest)
  if lease_ms > 0 and timeout_ms > lease_ms then
    redis.call('ZADD', prefix .. 't', soonest + timeout_ms, 't' .. member, soonest + lease_ms, 'l' .. member)
  else
    redis.call('ZADD', prefix .. 't', soonest + timeout_ms, 't' .. member)
  end
end
