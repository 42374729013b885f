-- commit: transitions of flows, each decided for itself. On a cluster all are of one partition.
--
-- KEYS      each partition's anchor, and every key that a commit names by its place
-- ARGV      1 how long (ms) a removed id is remembered, 2 'LT': a timer only becomes earlier, 3 how many commits; then
--           these, then entries for queues. A commit is packed by msgpack, an array of
--           1 place of the flow, 2 the tag that it ends with (''; there is no flow), 3 the new tag, 4 its facts,
--           5 place of the work (`w`), 6 attempts that end (as in `w`),
--           7 place of the timers, 8 timers to set (ms from now, member, ...), 9 timers to cancel,
--           10 work to queue (place of the queue, place of `ready`, action, as in `w`, place of the entry
--           in ARGV, ...),
--           11 listing (place of what it leaves or 0, place of what it enters or 0, id, created ms or 0,
--           place of `names`, name),
--           12 retention (place of the list, tail of the entry, place of `names`, name, whether to give back
--           unused memory; or true: remove it now),
--           13 more: {pause = flow, resume = {flow, place of a queue, place of `ready`, action, as in `w`, ...},
--           fired = {as in `w`, value that was seen there or '', ...},
--           block = {place of its key, line without its end}}
-- returns   {ms now, ms that timers count from, refusals: number of the commit, the tag that was found or
--           'moved', ...}. A commit whose own tag was found had been made before: it is no refusal
--- @include "now"
--- @include "flow"
local call, unpack_commit = redis.call, cmsgpack.unpack
local now, soonest = now_ms()
local stamp = string.format('%.0f', now)
local refused = {}

local function call_many(command, key, values)
  for first = 1, #values, 1000 do
    call(command, key, unpack(values, first, math.min(first + 999, #values)))
  end
end

-- Whether what a timer was handled for is still as it was seen: nobody has got more time since.
local function is_as_seen(work, fired)
  for i = 1, #fired, 2 do
    if (call('HGET', work, fired[i]) or '') ~= fired[i + 1] then
      return false
    end
  end
  return true
end

for number = 4, 3 + ARGV[3] do
  local commit = unpack_commit(ARGV[number])
  local flow, more = KEYS[commit[1]], commit[13]
  local found = tag_of(flow)
  if found ~= commit[2] then
    if found ~= commit[3] then
      refused[#refused + 1] = number - 3
      refused[#refused + 1] = found
    end
  elseif more and more.fired and not is_as_seen(KEYS[commit[5]], more.fired) then
    refused[#refused + 1] = number - 3
    refused[#refused + 1] = 'moved'
  else
    -- From here on nothing can fail. What `w` says about attempts that end comes into the log.
    local claims, retention = '', commit[12]
    if commit[6] then
      local work = KEYS[commit[5]]
      for _, attempt in ipairs(commit[6]) do
        local value = call('HGET', work, attempt)
        if value then
          claims = claims .. string.match(value, '^.([^\n]*)')
          call('HDEL', work, attempt)
        end
      end
    end
    if retention == true then
      bury(flow, ARGV[1])
    else
      if more and more.block then -- what the log up to here comes to, and how long it is
        local length = string.format('%012d', call('STRLEN', flow))
        call('APPEND', KEYS[more.block[1]], more.block[2] .. length .. '"]\n')
      end
      write(flow, commit, stamp, claims)
    end
    if commit[9] then
      call_many('ZREM', KEYS[commit[7]], commit[9])
    end
    if retention ~= true then
      local timers = commit[8]
      if timers then
        local key = KEYS[commit[7]]
        for i = 1, #timers, 2 do
          local due = timers[i] == 0 and now or soonest + timers[i]
          if ARGV[2] == 'LT' then
            call('ZADD', key, 'LT', due, timers[i + 1])
          else
            call('ZADD', key, due, timers[i + 1])
          end
        end
      end
      local queued = commit[10]
      if queued then
        for i = 1, #queued, 5 do
          call('HSET', KEYS[commit[5]], queued[i + 3], 'q')
          if call('RPUSH', KEYS[queued[i]], ARGV[queued[i + 4]]) == 1 then
            call('SADD', KEYS[queued[i + 1]], queued[i + 2])
          end
        end
      end
    end
    local listing = commit[11]
    if listing then
      if listing[1] > 0 then
        call('ZREM', KEYS[listing[1]], listing[3])
      end
      if listing[2] > 0 and retention ~= true then
        if call('EXISTS', KEYS[listing[2]]) == 0 then
          call('SADD', KEYS[listing[5]], listing[6])
        end
        call('ZADD', KEYS[listing[2]], listing[4] == 0 and now or listing[4], listing[3])
      end
    end
    if retention and retention ~= true then
      if retention[5] then
        trim(flow)
      end
      if call('RPUSH', KEYS[retention[1]], stamp .. retention[2]) == 1 then
        call('SADD', KEYS[retention[3]], retention[4])
      end
    end
    if more then
      if more.pause then
        call('HSET', KEYS[commit[5]], 'p:' .. more.pause, '1')
      end
      if more.resume then
        local work, resume = KEYS[commit[5]], more.resume
        call('HDEL', work, 'p:' .. resume[1])
        for i = 2, #resume, 4 do
          local value = call('HGET', work, resume[i + 3])
          if value and string.sub(value, 1, 1) == 'd' then -- a claim had set its entry aside
            local fragments, entry = string.match(value, '^.([^\n]*)\n(.*)$')
            call('HSET', work, resume[i + 3], 'q' .. fragments)
            if call('RPUSH', KEYS[resume[i]], entry) == 1 then
              call('SADD', KEYS[resume[i + 1]], resume[i + 2])
            end
          end
        end
      end
    end
  end
end
return {now, soonest, refused}
