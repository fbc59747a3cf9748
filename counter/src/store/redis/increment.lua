-- Increments with idempotency keys of one origin: each is counted once and remembered with its result, in one atomic step.
--
-- KEYS: where the origin's keys stand (a hash), then the counter of each item. The keys themselves are in the hashes
-- KEYS[1]:N and KEYS[1]:N-1, the newer and the older generation; the older one is dropped whole.
-- ARGV: the retention in milliseconds, the bytes that keys may take, what one takes beside its text; then for each item the
-- key with the counter's name; then for each item the delta.
-- Answer: the bytes that keys take, then for each item one of
--   VALUE DELTA TIME   counted, and remembered like this      #   no room for the key
--   =VALUE DELTA TIME  the key was used, and this remembered  ?ERROR  what Redis said to this item
--
-- No item harms another, and nothing can fail between a count and its key: what could (the type of a hash, the right to write
-- it, memory) is tried before the first count. Lua writes numbers exactly up to 14 digits; larger counts are read as text.

local state, items = KEYS[1], #KEYS - 1
local retention, limit, overhead = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local EXACT = 100000000000000
local call, pcall = redis.call, redis.pcall

local function generation(number)
  return state .. ':' .. number
end

local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local now_text = string.format('%.0f', now)

-- Where the generations stand, and a new one if it is time to.
local stored = call('HMGET', state, 'newest', 'since', 'newer', 'older')
local newest, since = tonumber(stored[1] or 0), tonumber(stored[2] or 0)
local newer, older = tonumber(stored[3] or 0), tonumber(stored[4] or 0)
local age = now - since
local idle = items == 0 and newer + older == 0
local changed = not idle and (newest == 0 or age >= retention)
if changed then
  call('UNLINK', generation(newest - 1))
  newest, newer, older = newest + 1, 0, newer
  if age >= 2 * retention then
    call('UNLINK', generation(newest - 1))
    newest, older = newest + 1, 0
  end
  since = now
end

-- What is known of each key: its record, or whether there is room for it (true, false).
local found, before, known = {}, {}, {}
if items > 0 and newer > 0 then
  found = call('HMGET', generation(newest), unpack(ARGV, 4, 3 + items))
end
if items > 0 and older > 0 then
  before = call('HMGET', generation(newest - 1), unpack(ARGV, 4, 3 + items))
end
for i = 1, items do
  local field = ARGV[3 + i]
  if known[field] == nil then
    local record = found[i] or before[i]
    if record and now - string.match(record, '%d+$') < retention then
      known[field] = record
    else
      local bytes = #field + overhead
      local room = newer + older + bytes <= limit
      if room then
        newer, changed = newer + bytes, true
      end
      known[field] = room
    end
  end
end

local function save()
  local numbers = { newest, string.format('%.0f', since), string.format('%.0f', newer), string.format('%.0f', older) }
  call('HSET', state, 'newest', numbers[1], 'since', numbers[2], 'newer', numbers[3], 'older', numbers[4])
end
if changed then
  save()
end

-- The counts. An item whose key an earlier one of this batch has used is a repeat of it.
local answers, writes, wasted = { 0 }, {}, 0
for i = 1, items do
  local field = ARGV[3 + i]
  local record = known[field]
  local answer
  if record == true then
    local delta = ARGV[3 + items + i]
    local value = pcall('INCRBY', KEYS[i + 1], delta)
    if type(value) == 'number' then
      if value >= EXACT or value <= -EXACT then
        value = call('GET', KEYS[i + 1])
      end
      answer = value .. ' ' .. delta .. ' ' .. now_text
      known[field] = answer
      writes[#writes + 1] = field
      writes[#writes + 1] = answer
    else
      answer = '?' .. value.err
      wasted = wasted + #field + overhead
    end
  elseif record then
    answer = '=' .. record
  else
    answer = '#'
  end
  answers[i + 1] = answer
end
if #writes > 0 then
  call('HSET', generation(newest), unpack(writes))
end
if wasted > 0 then
  newer = math.max(newer - wasted, 0)
  save()
end
answers[1] = string.format('%.0f', newer + older)
return answers
