-- Announces counts, and brings some in, each with its event in one atomic step.
--
-- KEYS: where the outbox stands (a hash), what was brought in of each counter (a hash), then the counter of each item.
-- ARGV: the outbox's shards (0: there is none), the name of a new one, the identity of the server, the shard of each item (a
-- byte each); then for each item the value that the source has, or nothing if the count is only to be announced.
-- Answer: for each item its count, or ?ERROR.
--
-- What a source has is added less what was brought in of it before, so that doing it again brings in what it counted since. The
-- event has the delta 0 and the new count: nothing of it happened now.

local outbox, imported, items, shards = KEYS[1], KEYS[2], #KEYS - 2, tonumber(ARGV[1])
local route = ARGV[4]
local call, pcall, byte = redis.call, redis.pcall, string.byte

local time = call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))

local name
if shards > 0 then
  local stored = call('HMGET', outbox, 'name', 'server', 'shards')
  if stored[3] and tonumber(stored[3]) ~= shards then
    return redis.error_reply('SHARDS ' .. stored[3])
  end
  name = stored[1]
  if not name or stored[2] ~= ARGV[3] then
    name = ARGV[2]
    call('HSET', outbox, 'name', name, 'server', ARGV[3], 'shards', shards)
  end
  for shard = 0, shards - 1 do
    -- Whether the streams can be written is known before anything is.
    call('XLEN', outbox .. ':' .. shard)
  end
end

local function negated(number)
  return string.sub(number, 1, 1) == '-' and string.sub(number, 2) or '-' .. number
end

-- Adds what is new of the source, exactly: Redis reckons, in 64 bits.
local function bring_in(key, counter, value)
  local before = call('HGET', imported, counter) or '0'
  if before == value then
    return nil
  end
  local said = call('HSET', imported, counter, value)
  if before ~= '0' then
    said = pcall('HINCRBY', imported, counter, negated(before))
  end
  if type(said) == 'number' then
    local more = call('HGET', imported, counter)
    said = pcall('INCRBY', key, more)
  end
  call('HSET', imported, counter, type(said) == 'number' and value or before)
  return type(said) ~= 'number' and said.err or nil
end

local answers, events = {}, {}
for i = 1, items do
  local key, value, wrong = KEYS[i + 2], ARGV[4 + i], nil
  local counter = string.sub(key, 9)
  local count = pcall('GET', key)
  if type(count) == 'table' then
    wrong = count.err
  elseif value ~= '' then
    wrong = bring_in(key, counter, value)
    count = call('GET', key) or '0'
  else
    count = count or '0'
  end
  if not wrong and not string.match(count, '^%-?%d+$') then
    wrong = 'ERR value is not an integer'
  end
  answers[i] = wrong and '?' .. wrong or count
  if not wrong and shards > 0 then
    local shard = byte(route, i)
    local lines = events[shard] or { '' }
    events[shard] = lines
    lines[#lines + 1] = key
    lines[#lines + 1] = count .. ' 0 ' .. now
  end
end
for shard, lines in pairs(events) do
  local last = call('HINCRBY', outbox, 'seq:' .. shard, (#lines - 1) / 2)
  lines[1] = name .. '.' .. shard .. ' ' .. string.format('%.0f', last - (#lines - 1) / 2 + 1)
  call('XADD', outbox .. ':' .. shard, '*', 'e', table.concat(lines, '\n'))
end
return answers
