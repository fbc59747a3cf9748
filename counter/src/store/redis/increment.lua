-- Increments with idempotency keys of one origin: each is counted once and remembered with its result, in one atomic step.
--
-- KEYS: where the origin's keys stand (a hash), then the counter of each item. The keys themselves are in the hashes
-- KEYS[1]:N and KEYS[1]:N-1, the newer and the older generation; the older one is dropped whole.
-- ARGV: the retention in milliseconds, the bytes that keys may take, what one takes beside its text; then for each item the
-- key with the counter's name, and the delta.
-- Answer: the time in milliseconds, the bytes that keys take, then for each item one of
--   +VALUE  counted             =VALUE TIME  counted before at that time    !DELTA  the key was used for that delta
--   #  no room for the key      -ERROR  what Redis said to this item
--
-- No item harms another, and nothing can fail between a count and its key: what could (the type of a hash, the right to write
-- it, memory) is tried before the first count. Numbers of Lua are exact up to 2^53 only; counts beyond are read as text.

local state, items = KEYS[1], #KEYS - 1
local retention, limit, overhead = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local EXACT = 9007199254740992

local function text(number)
  return string.format('%.0f', number)
end

local function generation(number)
  return state .. ':' .. text(number)
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Where the generations stand, and a new one if it is time to.
local stored = redis.call('HMGET', state, 'newest', 'since', 'newer', 'older')
local newest, since = tonumber(stored[1] or 0), tonumber(stored[2] or 0)
local newer, older = tonumber(stored[3] or 0), tonumber(stored[4] or 0)
local age = now - since
local changed = newest == 0 or age >= retention
if items == 0 and newer + older == 0 then
  changed = false
end
if changed then
  redis.call('UNLINK', generation(newest - 1))
  newest, newer, older = newest + 1, 0, newer
  if age >= 2 * retention then
    redis.call('UNLINK', generation(newest - 1))
    newest, older = newest + 1, 0
  end
  since = now
end

-- What is known of each item, and whether there is room for the new ones.
local fields, live, room = {}, {}, {}
for i = 1, items do
  fields[i] = ARGV[2 + 2 * i]
end
local found, before = {}, {}
if items > 0 and newer > 0 then
  found = redis.call('HMGET', generation(newest), unpack(fields))
end
if items > 0 and older > 0 then
  before = redis.call('HMGET', generation(newest - 1), unpack(fields))
end
for i = 1, items do
  local field, record = fields[i], found[i] or before[i]
  if record then
    local value, delta, at = string.match(record, '^(%S+) (%S+) (%S+)$')
    if now - at < retention then
      live[i] = { value, delta, at }
    end
  end
  if not live[i] and room[field] == nil then
    local bytes = #field + overhead
    room[field] = newer + older + bytes <= limit
    if room[field] then
      newer, changed = newer + bytes, true
    end
  end
end

local function save()
  redis.call('HSET', state, 'newest', text(newest), 'since', text(since), 'newer', text(newer), 'older', text(older))
end
if changed then
  save()
end

-- The counts. An item whose key an earlier one of this batch has used is a repeat of it.
local answers, writes, counted, wasted = { text(now), 0 }, {}, {}, 0
for i = 1, items do
  local field, delta = fields[i], ARGV[3 + 2 * i]
  local record = live[i] or counted[field]
  local answer
  if record then
    answer = record[2] == delta and '=' .. record[1] .. ' ' .. record[3] or '!' .. record[2]
  elseif not room[field] then
    answer = '#'
  else
    local value = redis.pcall('INCRBY', KEYS[i + 1], delta)
    if type(value) == 'table' then
      answer = '-' .. value.err
      wasted = wasted + #field + overhead
    else
      if value >= EXACT or value <= -EXACT then
        value = redis.call('GET', KEYS[i + 1])
      else
        value = text(value)
      end
      counted[field] = { value, delta, answers[1] }
      writes[#writes + 1] = field
      writes[#writes + 1] = value .. ' ' .. delta .. ' ' .. answers[1]
      answer = '+' .. value
    end
  end
  answers[i + 2] = answer
end
if #writes > 0 then
  redis.call('HSET', generation(newest), unpack(writes))
end
if wasted > 0 then
  newer = math.max(newer - wasted, 0)
  save()
end
answers[2] = text(newer + older)
return answers
