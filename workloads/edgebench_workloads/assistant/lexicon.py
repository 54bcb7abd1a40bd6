"""The closed word lists of the assistant's language.

A plain string is both what is said and what the call holds (places and doors lose their "the").
A tuple is (value in the call, ways to say it...).
"""

from __future__ import annotations

Entry = str | tuple[str, ...]

ROOMS: tuple[Entry, ...] = (
    "the kitchen", "the bedroom", "the bathroom", "the garage", "the hallway", "the attic",
    "the office", "the nursery", "the dining room", "the guest room", "the laundry room",
    "the porch", "the pantry", "the studio", "the garden", "the balcony", "the library",
    "the gym", "the playroom", "the workshop", "the veranda", "the staircase",
    ("living room", "the living room", "the lounge"), ("basement", "the basement", "the cellar"),
)  # fmt: skip
DOORS: tuple[Entry, ...] = (
    "the front door", "the back door", "the side door", "the garage door", "the garden gate",
    "the patio door", "the cellar door", "the shed", "the mailbox", "the office door", "the barn",
    "the main gate",
)  # fmt: skip
FIRST_NAMES: tuple[Entry, ...] = (
    "anna", "ben", "carla", "david", "elena", "felix", "grace", "hugo", "irene", "jonas", "karin",
    "leo", "maria", "nora", "oscar", "paula", "quentin", "rosa", "simon", "tara", "victor",
    "wanda", "yusuf", "zoe", "amir", "bella", "chen", "dana", "emil", "fatima", "george", "hana",
    "ivan", "julia", "kofi", "linda", "marco", "nina", "omar", "priya", "robin", "sofia", "tom",
    "ursula", "vera", "walter", "xenia", "yara",
)  # fmt: skip
LAST_NAMES: tuple[Entry, ...] = (
    "keller", "meier", "rossi", "tanaka", "okafor", "silva", "novak", "larsen", "moreau",
    "schmidt", "patel", "garcia", "kim", "weber", "brown", "ivanova", "dubois", "fischer",
    "haddad", "murphy", "singh", "lopez", "berg", "costa",
)  # fmt: skip
CITIES: tuple[Entry, ...] = (
    "zurich", "bern", "geneva", "basel", "lugano", "paris", "lyon", "london", "dublin", "madrid",
    "lisbon", "rome", "milan", "vienna", "munich", "berlin", "hamburg", "prague", "warsaw",
    "oslo", "stockholm", "helsinki", "athens", "cairo", "nairobi", "lagos", "tokyo", "osaka",
    "seoul", "beijing", "delhi", "mumbai", "sydney", "boston", "chicago", "denver", "seattle",
    "toronto", "lima", "bogota",
)  # fmt: skip
PLACES: tuple[Entry, ...] = (
    "the airport", "the train station", "the hospital", "the city hall", "the stadium",
    "the museum", "the zoo", "the harbor", "the university", "the opera", "the library",
    "the old bridge", "the market", "the beach", "the cinema", "the school", "the lake",
    "the castle", "the post office", "the mall", ("home", "home"), ("work", "work"),
)  # fmt: skip
ARTISTS: tuple[Entry, ...] = (
    "queen", "abba", "mozart", "bach", "miles davis", "nina simone", "bob marley", "the beatles",
    "pink floyd", "daft punk", "radiohead", "adele", "shakira", "vivaldi", "chopin",
    "johnny cash", "bjork", "the police", "coldplay", "aretha franklin", "louis armstrong",
    "blondie", "genesis", "fela kuti", "ella fitzgerald", "kraftwerk", "santana", "sade",
    "prince", "dolly parton",
)  # fmt: skip
SONGS: tuple[Entry, ...] = (
    "summer rain", "blue river", "the long road", "midnight train", "paper moon", "golden hour",
    "silent snow", "dancing shadows", "lost in the city", "ocean drive", "wild horses",
    "seven bridges", "broken mirror", "red balloon", "morning coffee", "electric sky",
    "one more mile", "the last waltz", "velvet garden", "hold the line", "winter sun",
    "northern lights", "sugar and salt", "empty streets", "fly me home", "two hearts",
    "river song", "green fields", "slow motion", "under the bridge",
)  # fmt: skip
ITEMS: tuple[Entry, ...] = (
    "apples", "bananas", "lemons", "onions", "tomatoes", "carrots", "eggs", "candles",
    "batteries", "napkins", "bagels", "avocados", "potatoes", "mushrooms", "peppers", "cookies",
    "light bulbs", "trash bags", "paper towels", ("milk", "bottles of milk", "cartons of milk"),
    ("rice", "bags of rice", "packs of rice"), ("juice", "bottles of juice", "cartons of juice"),
    ("flour", "bags of flour", "packs of flour"), ("pasta", "packs of pasta", "boxes of pasta"),
    ("coffee", "packs of coffee", "bags of coffee"),
    ("butter", "sticks of butter", "packs of butter"), ("honey", "jars of honey"),
    ("yogurt", "cups of yogurt"), ("tea", "boxes of tea", "packs of tea"),
    ("soap", "bars of soap"), ("bread", "loaves of bread"),
    ("beans", "cans of beans", "tins of beans"),
)  # fmt: skip
LISTS: tuple[Entry, ...] = (
    ("shopping", "the shopping list", "my shopping list"), ("party", "the party list"),
    ("camping", "the camping list"), ("pharmacy", "the pharmacy list"),
    ("office", "the office list"), ("weekend", "the weekend list"),
)  # fmt: skip
LABELS: tuple[Entry, ...] = (
    "pasta", "rice", "eggs", "pizza", "tea", "laundry", "workout", "nap", "bread", "cake",
    "meeting", "yoga", "homework", "chicken", "soup", "parking", "meditation", "cookies", "roast",
    "stretching", "reading", "dough", "plank", "piano",
)  # fmt: skip
TASKS: tuple[Entry, ...] = (
    "water the plants", "take out the trash", "feed the cat", "walk the dog", "pay the rent",
    "buy flowers", "return the books", "charge the bike", "book the flights", "take my pills",
    "clean the oven", "wash the car", "pick up the kids", "renew the passport", "check the mail",
    "order new glasses", "backup the laptop", "fix the fence", "send the invoice",
    "defrost the chicken", "change the filter", "iron the shirts", "mow the lawn",
    "sign the contract", "empty the dishwasher", "submit the report", "charge the camera",
    "pack the suitcase", "bake a cake", "stretch my back",
)  # fmt: skip
EVENTS: tuple[Entry, ...] = (
    "dentist", "haircut", "team meeting", "piano lesson", "lunch", "dinner", "job interview",
    "yoga class", "parent evening", "car service", "book club", "tennis", "design review",
    "eye exam", "choir practice", "brunch", "budget call", "flu shot", "chess club",
    "house viewing",
)  # fmt: skip
MESSAGES: tuple[Entry, ...] = (
    "i am running late", "i am on my way", "dinner is ready", "the train is delayed",
    "happy birthday", "please call me back", "the meeting is over", "i found your keys",
    "do not wait for me", "the package arrived", "good luck today", "thanks for the gift",
    "we are out of milk", "i left the office", "see you soon", "the door is open",
    "save me a seat", "the game starts soon", "i got the tickets", "pick me up later",
    "the baby is asleep", "you were right", "i love the photos", "bring a jacket",
)  # fmt: skip
DAYS: tuple[Entry, ...] = (
    ("monday", "on monday", "this monday"), ("tuesday", "on tuesday", "this tuesday"),
    ("wednesday", "on wednesday", "this wednesday"), ("thursday", "on thursday", "this thursday"),
    ("friday", "on friday", "this friday"), ("saturday", "on saturday", "this saturday"),
    ("sunday", "on sunday", "this sunday"), "today", "tomorrow",
)  # fmt: skip
REPEATS: tuple[Entry, ...] = (
    ("daily", "every day", "daily"), ("weekdays", "on weekdays", "every weekday"),
    ("weekends", "on weekends", "every weekend"), ("mondays", "every monday"),
    ("fridays", "every friday"), ("sundays", "every sunday"),
)  # fmt: skip
DAY_PARTS: tuple[Entry, ...] = (
    ("morning", "in the morning"), ("afternoon", "in the afternoon"),
    ("evening", "in the evening"), ("night", "at night"),
)  # fmt: skip
COLORS: tuple[Entry, ...] = (
    "red", "green", "blue", "yellow", "orange", "purple", "pink", "turquoise", "violet", "amber",
    "lime", "magenta", ("warm", "warm white"), ("cool", "cool white", "cold white"),
)  # fmt: skip
SPEAKERS: tuple[Entry, ...] = (
    ("tv", "the tv", "the television"), ("radio", "the radio"),
    ("phone", "the phone", "my phone"), ("headphones", "the headphones", "my headphones"),
    ("car", "the car stereo"), ("tablet", "the tablet"), ("soundbar", "the soundbar"),
    ("laptop", "the laptop", "my laptop"), ("doorbell", "the doorbell"), ("alarm", "the alarm"),
    ("media", "the media player"), ("navigation", "the navigation voice"),
)  # fmt: skip
LINES: tuple[Entry, ...] = (
    ("mobile", "mobile", "cell phone"), ("home", "home number"),
    ("work", "work number", "office line"), ("video", "video chat"),
)  # fmt: skip
ROADS: tuple[Entry, ...] = (
    ("tolls", "tolls", "toll roads"), ("highways", "highways", "motorways"),
    ("ferries", "ferries"), ("tunnels", "tunnels"), ("traffic", "traffic jams"),
)  # fmt: skip
VENUES: tuple[Entry, ...] = (
    "pharmacy", "bakery", "hotel", "bank", "florist", "supermarket", "bookshop", "hardware store",
    "car wash", "coffee shop", "sushi bar", "pizzeria", "gym", "playground", "vet",
    "swimming pool", ("fuel", "gas station", "petrol station"), ("charger", "charging station"),
    ("parking", "parking lot", "car park"),
)  # fmt: skip
APPLIANCES: tuple[Entry, ...] = (
    ("washer", "the washer", "the washing machine"), ("dryer", "the dryer"),
    ("dishwasher", "the dishwasher"), ("oven", "the oven"), ("vacuum", "the robot vacuum"),
    ("sprinkler", "the sprinkler", "the lawn sprinkler"), ("coffee", "the coffee machine"),
    ("heater", "the water heater"),
)  # fmt: skip
PROGRAMS: tuple[Entry, ...] = (
    ("eco", "eco", "energy saving"), ("quick", "quick", "express"), "gentle", "intensive",
    "silent", ("auto", "automatic"), "delicate", "strong",
)  # fmt: skip
SEATS: tuple[Entry, ...] = (
    ("driver", "the driver seat", "my seat"), ("passenger", "the passenger seat"),
    ("rear left", "the left rear seat"), ("rear right", "the right rear seat"),
    ("middle", "the middle seat"),
)  # fmt: skip
CONVERSIONS: tuple[tuple[str, str, str, str], ...] = (
    ("mi", "miles", "km", "kilometers"), ("km", "kilometers", "mi", "miles"),
    ("kg", "kilograms", "lb", "pounds"), ("lb", "pounds", "kg", "kilograms"),
    ("oz", "ounces", "g", "grams"), ("g", "grams", "oz", "ounces"),
    ("l", "liters", "gal", "gallons"), ("gal", "gallons", "l", "liters"),
    ("ft", "feet", "m", "meters"), ("m", "meters", "ft", "feet"),
    ("in", "inches", "cm", "centimeters"), ("cm", "centimeters", "in", "inches"),
)  # fmt: skip

GREETINGS: tuple[str, ...] = (
    "hey", "hi there", "okay", "please", "could you", "can you please", "hello", "would you",
    "i need you to", "now", "well", "alright", "listen", "okay so", "excuse me", "be so kind and",
)  # fmt: skip
SMALL_TALK: tuple[str, ...] = (
    "what a long day", "i am so tired today", "it is really nice outside",
    "i had {n} meetings today", "we have {n} guests tonight", "{name} says hello",
    "my sister {name} is visiting", "i just came back from {city}",
    "it was {n} degrees in {city} this week", "i woke up at {time} today",
    "the kids are finally asleep", "my phone is at {n} percent by the way",
    "i ran {n} kilometers this morning", "{name} turned {n} last week",
    "you would not believe the traffic", "i have been up since {time}",
    "the movie ended around {time}", "{name} moved to {city}", "i am reading a great book",
    "the neighbors are loud again", "{name} and {name} are getting married",
    "i missed the bus again", "my train was {n} minutes late", "dinner with {name} was lovely",
)  # fmt: skip
THANKS: tuple[str, ...] = (
    "thanks", "thank you", "please", "if you can", "that would be great", "that is all",
    "as always", "quickly please",
)  # fmt: skip
REPAIRS: tuple[str, ...] = (
    "no make that", "no", "no wait", "sorry i mean", "i mean", "actually", "or rather", "wait no",
    "uh no", "no sorry", "correction", "hmm let us say", "no make it",
)  # fmt: skip
TAIL_REPAIRS: tuple[str, ...] = (
    "no make that", "actually make it", "sorry i meant", "wait i said it wrong i want",
    "no i mean", "hold on make that",
)  # fmt: skip
RETRACTIONS: tuple[str, ...] = (
    "scratch that", "forget that", "never mind", "no cancel that", "oh wait no",
    "changed my mind",
)  # fmt: skip
PROHIBITIONS: tuple[str, ...] = ("don't", "do not", "please don't", "you should not")
INSTEADS: tuple[str, ...] = ("just", "instead", "rather", "but")
FILLERS: tuple[str, ...] = ("um", "uh", "er", "like", "you know")
