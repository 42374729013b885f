-- A queue entry is `<flowId>:<actionId>:<attempt>:<timeoutMs>:<action name>\n<body>`. Nothing for what is none.
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

-- Sets the time-out of an attempt that is handed out now; the line of history that says so.
local function hand_out(prefix, entry, worker, stamp, soonest)
  local flow_id, action_id, attempt, timeout_ms = parse_entry(entry)
  redis.call('ZADD', prefix .. 't', soonest + timeout_ms, 't:' .. action_id .. ':' .. attempt .. ':' .. flow_id)
  return stamp .. '["H",' .. action_id .. ',' .. attempt .. ',' .. worker .. ']'
end
