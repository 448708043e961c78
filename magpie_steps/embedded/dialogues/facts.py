"""The small tables of facts of the miniature world."""

NAMES = tuple(
    "Anna Ben Carl Dina Emma Finn Gina Hugo Ida Jack Kate Leo Mia Nina Omar Paul Rosa Sam Tina"
    " Uma Vera Will Yara Zoe Alan Bella Cora Dan Eva Fred Grace Harry Iris Jane Karl Lucy Max Nora"
    " Oscar Peter".split()
)

CAPITALS = {
    "France": "Paris",
    "Spain": "Madrid",
    "Italy": "Rome",
    "Germany": "Berlin",
    "Portugal": "Lisbon",
    "Greece": "Athens",
    "Poland": "Warsaw",
    "Austria": "Vienna",
    "Sweden": "Stockholm",
    "Norway": "Oslo",
    "Finland": "Helsinki",
    "Denmark": "Copenhagen",
    "Ireland": "Dublin",
    "Hungary": "Budapest",
    "Egypt": "Cairo",
    "Kenya": "Nairobi",
    "Morocco": "Rabat",
    "Ghana": "Accra",
    "Senegal": "Dakar",
    "Japan": "Tokyo",
    "China": "Beijing",
    "India": "New Delhi",
    "Thailand": "Bangkok",
    "Vietnam": "Hanoi",
    "Nepal": "Kathmandu",
    "Iran": "Tehran",
    "Canada": "Ottawa",
    "Mexico": "Mexico City",
    "Cuba": "Havana",
    "Brazil": "Brasilia",
    "Chile": "Santiago",
    "Peru": "Lima",
    "Colombia": "Bogota",
    "Argentina": "Buenos Aires",
    "Australia": "Canberra",
    "Fiji": "Suva",
}

_CONTINENT_MEMBERS = {
    "Europe": "France Spain Italy Germany Portugal Greece Poland Austria Sweden Norway Finland"
    " Denmark Ireland Hungary",
    "Africa": "Egypt Kenya Morocco Ghana Senegal",
    "Asia": "Japan China India Thailand Vietnam Nepal Iran",
    "North America": "Canada Mexico Cuba",
    "South America": "Brazil Chile Peru Colombia Argentina",
    "Oceania": "Australia Fiji",
}
CONTINENTS = {
    country: continent
    for continent, members in _CONTINENT_MEMBERS.items()
    for country in members.split()
}

ANIMALS = {
    # animal: (legs, what it eats, its young)
    "dog": ("4", "meat", "puppy"),
    "cat": ("4", "fish", "kitten"),
    "cow": ("4", "grass", "calf"),
    "horse": ("4", "hay", "foal"),
    "sheep": ("4", "grass", "lamb"),
    "goat": ("4", "leaves", "kid"),
    "pig": ("4", "roots", "piglet"),
    "lion": ("4", "meat", "cub"),
    "bear": ("4", "berries", "cub"),
    "rabbit": ("4", "carrots", "bunny"),
    "deer": ("4", "leaves", "fawn"),
    "duck": ("2", "seeds", "duckling"),
    "hen": ("2", "grain", "chick"),
    "hawk": ("2", "mice", "eyas"),
    "goose": ("2", "grass", "gosling"),
    "swan": ("2", "plants", "cygnet"),
    "frog": ("4", "flies", "tadpole"),
    "kangaroo": ("4", "grass", "joey"),
    "camel": ("4", "leaves", "calf"),
    "fox": ("4", "mice", "kit"),
}

ELEMENTS = {
    "hydrogen": "H",
    "helium": "He",
    "carbon": "C",
    "nitrogen": "N",
    "oxygen": "O",
    "sodium": "Na",
    "iron": "Fe",
    "copper": "Cu",
    "silver": "Ag",
    "gold": "Au",
    "tin": "Sn",
    "lead": "Pb",
    "zinc": "Zn",
    "calcium": "Ca",
    "neon": "Ne",
}

UNITS = {
    # (large, small): how many small ones are in a large one, a power of ten
    ("meters", "centimeters"): 100,
    ("kilometers", "meters"): 1000,
    ("kilograms", "grams"): 1000,
    ("liters", "milliliters"): 1000,
    ("euros", "cents"): 100,
    ("centimeters", "millimeters"): 10,
    ("tons", "kilograms"): 1000,
    ("dollars", "cents"): 100,
}

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

WORD_CLASSES = {
    "fruits": "apple banana cherry grape lemon mango orange peach pear plum".split(),
    "colors": "red blue green yellow purple brown black white pink gray".split(),
    "tools": "hammer saw drill wrench shovel rake ladder pliers brush axe".split(),
    "clothes": "shirt coat hat scarf shoe sock dress glove jacket belt".split(),
    "vehicles": "car bus train bike truck boat plane tram van ship".split(),
    "instruments": "piano guitar violin drum flute harp trumpet cello banjo organ".split(),
}
CLASS_OF_WORD = {word: name for name, words in WORD_CLASSES.items() for word in words}

OPPOSITES = {
    "hot": "cold",
    "big": "small",
    "fast": "slow",
    "old": "young",
    "happy": "sad",
    "light": "dark",
    "high": "low",
    "open": "closed",
    "full": "empty",
    "hard": "soft",
    "early": "late",
    "wet": "dry",
    "rich": "poor",
    "strong": "weak",
    "loud": "quiet",
    "clean": "dirty",
    "cheap": "expensive",
    "near": "far",
    "thick": "thin",
    "right": "wrong",
}

TRANSLATIONS = {
    # an English word in the languages of LANGUAGES
    "house": ("casa", "maison", "Haus"),
    "water": ("agua", "eau", "Wasser"),
    "bread": ("pan", "pain", "Brot"),
    "book": ("libro", "livre", "Buch"),
    "sun": ("sol", "soleil", "Sonne"),
    "moon": ("luna", "lune", "Mond"),
    "tree": ("arbol", "arbre", "Baum"),
    "milk": ("leche", "lait", "Milch"),
    "friend": ("amigo", "ami", "Freund"),
    "night": ("noche", "nuit", "Nacht"),
    "day": ("dia", "jour", "Tag"),
    "fire": ("fuego", "feu", "Feuer"),
    "door": ("puerta", "porte", "Tor"),
    "table": ("mesa", "table", "Tisch"),
    "egg": ("huevo", "oeuf", "Ei"),
    "school": ("escuela", "ecole", "Schule"),
    "city": ("ciudad", "ville", "Stadt"),
    "king": ("rey", "roi", "Koenig"),
}
LANGUAGES = ("Spanish", "French", "German")

ADJECTIVES = tuple(
    "brave clever gentle happy hungry kind lazy lonely lucky proud quiet shy silly tiny tired wise"
    " young old small big".split()
)
THINGS = tuple(
    "ball basket bell book bottle box bridge candle chair clock crown door flower garden key lamp"
    " letter map mirror ring rope stone table tree wall window".split()
)
PLACES = tuple(
    "forest desert castle village harbor mountain valley island river market library meadow"
    " cave beach".split()
)

PAST_TENSE = {
    "carries": "carried",
    "finds": "found",
    "sees": "saw",
    "loses": "lost",
    "paints": "painted",
    "watches": "watched",
    "likes": "liked",
    "hides": "hid",
    "breaks": "broke",
    "opens": "opened",
    "takes": "took",
    "cleans": "cleaned",
}

ROLES = {
    # role: what it always says first
    "pirate": "Arr!",
    "knight": "Hail!",
    "robot": "Beep boop.",
    "wizard": "By my beard!",
    "chef": "Bon appetit!",
    "detective": "Elementary!",
    "king": "Hear me!",
    "ghost": "Boo!",
    "cowboy": "Howdy!",
    "martian": "Greetings, human.",
    "sailor": "Ahoy!",
    "coach": "Come on, team!",
}

TOPICS = tuple(
    "sea moon rain snow wind sun river forest winter summer spring autumn night morning mountain"
    " garden city friendship music bread coffee rainbow ocean sky".split()
)

TRIP_ACTIVITIES = (
    "visit the old town",
    "walk along the river",
    "see the art museum",
    "eat at a local market",
    "take a boat tour",
    "climb the tower",
    "relax in the park",
    "go shopping in the center",
    "try a cooking class",
    "listen to live music",
)

EVENT_STEPS = {
    "birthday party": (
        "Choose a date",
        "Invite the guests",
        "Order a cake",
        "Decorate the room",
        "Prepare some games",
    ),
    "picnic": (
        "Pick a park",
        "Pack sandwiches",
        "Bring a blanket",
        "Check the weather",
        "Invite friends",
    ),
    "garage sale": (
        "Sort your things",
        "Set the prices",
        "Put up signs",
        "Set up tables",
        "Bring some change",
    ),
    "school play": (
        "Choose a story",
        "Give out the roles",
        "Practice the lines",
        "Make the costumes",
        "Sell tickets",
    ),
    "camping trip": (
        "Choose a campsite",
        "Pack the tent",
        "Buy food",
        "Check the weather",
        "Bring flashlights",
    ),
    "book club": (
        "Find members",
        "Choose a book",
        "Set a date",
        "Prepare questions",
        "Bring snacks",
    ),
    "charity run": (
        "Choose a route",
        "Ask for permission",
        "Find sponsors",
        "Invite runners",
        "Prepare water",
    ),
    "wedding": (
        "Set a budget",
        "Book a place",
        "Invite the guests",
        "Choose the music",
        "Order a cake",
    ),
}

MORNING_TASKS = (
    "clean the kitchen",
    "walk the dog",
    "go for a run",
    "water the plants",
    "bake bread",
    "make the beds",
)
AFTERNOON_TASKS = (
    "buy groceries",
    "wash the car",
    "write a report",
    "fix the bike",
    "visit the dentist",
    "mow the lawn",
)
EVENING_TASKS = (
    "call my mother",
    "pay the bills",
    "study for a test",
    "cook dinner",
    "read a story",
    "play the piano",
)

GOALS = {
    # goal: tips that help with it
    "sleep better": ("avoid screens at night", "go to bed early", "drink less coffee"),
    "save money": ("write down your expenses", "cook at home", "compare prices"),
    "learn a language": ("practice every day", "listen to songs", "talk to native speakers"),
    "get fit": ("exercise every day", "eat more vegetables", "take the stairs"),
    "make new friends": ("join a club", "smile more often", "invite people for coffee"),
    "study better": ("make a study plan", "turn off your phone", "take short breaks"),
    "eat healthier": ("eat more vegetables", "drink more water", "cook at home"),
    "reduce stress": ("take short breaks", "go for a walk", "breathe slowly"),
    "find a job": ("update your resume", "talk to your contacts", "prepare for interviews"),
    "write faster": ("learn to type", "make an outline first", "practice every day"),
    "be more organized": ("make a list", "clean your desk", "plan the week on Sunday"),
    "speak in public": ("practice aloud", "breathe slowly", "know your first sentence"),
}
ALL_TIPS = tuple(sorted({tip for tips in GOALS.values() for tip in tips}))

JOBS = tuple(
    "teacher nurse student driver cook farmer singer lawyer painter baker pilot doctor writer"
    " waiter".split()
)

IDEAS = {
    # topic: ideas for it
    "a gift for a friend": ("a book", "a mug", "a plant", "a photo album", "a scarf", "a candle"),
    "a healthy snack": ("an apple", "some nuts", "carrot sticks", "yogurt", "a banana", "hummus"),
    "a rainy day": (
        "watch a movie",
        "bake cookies",
        "read a book",
        "play a board game",
        "write a letter",
        "build a fort",
    ),
    "a family weekend": (
        "visit a zoo",
        "ride bikes",
        "go swimming",
        "have a picnic",
        "play a board game",
        "bake a cake",
    ),
    "a school project": (
        "build a volcano",
        "grow a plant",
        "draw a map",
        "make a poster",
        "film a video",
        "measure the rain",
    ),
    "a small business": (
        "sell cookies",
        "walk dogs",
        "repair bikes",
        "teach music",
        "wash cars",
        "design cards",
    ),
    "a new hobby": ("painting", "gardening", "chess", "knitting", "dancing", "photography"),
    "a party theme": ("pirates", "space", "the jungle", "superheroes", "the beach", "magic"),
}

PETS = ("dog", "cat", "parrot", "hamster", "rabbit", "turtle", "goldfish", "pony")
PET_NAMES = tuple("Bubbles Rocky Luna Coco Daisy Milo Pepper Simba Toby Willow Ziggy Pip".split())

SHOPS = tuple("bread flowers shoes books toys coffee hats bikes candles cakes plants lamps".split())
