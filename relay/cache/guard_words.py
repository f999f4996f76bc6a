"""English words by what they do to a meaning: the data of the meaning guard.

Each list is one text, words by spaces and groups by `/` or lines, since that is how it is read and
mended. Words are as `guard_stems.stem` leaves them or as they are written; the guard knows both.
"""

from __future__ import annotations

from typing import Final

from relay.cache.guard_lists import listed

NEGATIONS: Final = {
    **dict.fromkeys(listed(
"""
    not no nor neither none nothing nobody nowhere cannot cant dont doesnt didnt isnt arent
    wasnt werent wont wouldnt shouldnt couldnt havent hasnt hadnt aint unable
    """
), "¬not"),
    "never": "¬never", "without": "¬without", "except": "¬except", "unless": "¬unless",
    "only": "¬only", "just": "¬only", "merely": "¬only", "solely": "¬only",
    "hardly": "¬hardly", "barely": "¬hardly", "rarely": "¬seldom", "seldom": "¬seldom",
    "excluding": "¬except", "besides": "¬except", "minus": "¬without", "lacking": "¬without",
    "stop": "stop", "avoid": "avoid", "almost": "almost", "nearly": "almost",
}  # fmt: skip
"""Words that turn a sentence round, each as what it does."""

FILLERS: Final = frozenset(
    listed(
        """
    a an the this that these those there here it its itself is are was were be been being am
    do does did doing done have has had can could will would shall should may might must
    ought i me we us to so and or if then than too also very really quite just even well
    please kindly thanks thank hi hello hey ok okay dear sorry sir madam tell know wonder
    wondering want wanted need needed require required wish explain describe understand
    clarify of in on at any some s d ll ve re m t um uh er hmm erm actually basically simply
    exactly quickly currently possible possibly able who whom whose what which when where
    why how way thing my mine our ours own yes yeah now
    """
    )
)
"""Words that may be there or not. Those among them that matter elsewhere (question words, tense,
`should`) are looked at there."""

ALWAYS: Final = frozenset(
    listed(
        """
    from before after until till since between during above below under over behind against
    up down out off away back through across beyond inside outside within ago all every each
    both half most least more less fewer few many much another other same different either
    else again still yet already soon later earlier your yours yourself his him he her hers
    she their theirs them they because despite although
    """
    )
)
"""Small words that must be the same on both sides."""

BEFORE_TERMS: Final = frozenset(
    ["by", "about", "regarding", "concerning", "with", "for", "to", "into", "as", "like"]
)
"""Small words that must be the same where a name, a number or one of `SIBLINGS` follows."""

SAME: Final = """
    all every each everyone everybody everything / he him his / she her hers
    they them their theirs
    your yours yourself / under below beneath underneath / over above / until till
    usa us-of-a america u.s u.s.a united-states / uk britain great-britain united-kingdom u.k
    eu european-union / nyc new-york / la los-angeles / tv television telly / phone telephone
    mobile cellphone smartphone cell-phone mobile-phone
    email e-mail / photo picture pic photograph image / app application / car automobile
    password passcode pass-word / login log-in sign-in signin log-on / logout log-out sign-out
    signup sign-up register enrol enroll registration / price cost fee
    buy purchase order / begin start commence / end finish / stop quit cease / delete remove erase
    repair fix mend / fast quick rapid / movie film / doctor physician dr / holiday vacation
    big large huge / small little tiny / child kid / children kids / bike bicycle / shop store
    town city / country nation / close shut / hire employ / smart clever intelligent
    difficult hard / purpose goal aim / error mistake fault / problem issue trouble
    make create build / use utilize utilise using / need require / change modify alter edit update
    find locate look-for / choose select pick / receive get obtain / happen occur take-place
    author writer write wrote written / invent inventor invented
    discover discoverer discovered / paint painter painted / found founder founded
    compose composer composed / direct director directed
    definition define mean meaning / return send-back / refund money-back reimburse reimbursement
    deliver delivery ship shipping shipment / parcel package / cancel cancellation call-off
    subscription plan membership / invoice bill / payment pay
    hours opening-hours / weather forecast / distance far / height tall high / weight heavy weigh
    depth deep / length long / width wide / age old / size big / speed fast
    population inhabitants people-live / currency money / language tongue
    capital capital-city / president head-of-state / boss manager / job position / salary wage
    biggest largest / smallest littlest tiniest / fastest quickest / main primary principal
    famous well-known / advantage benefit pro upside / disadvantage drawback con downside
    difference differ distinguish / translate translation / calculate compute work-out
    recommend suggest recommendation suggestion
    photosynthesis / sick ill / happy glad / sad unhappy / rich wealthy / poor
    wifi wi-fi wireless / internet web online / computer pc / laptop notebook
    talk speak chat / agent representative human operator
    reach contact call get-in-touch get-hold / work function operate
    turn-on switch-on enable activate
    turn-off switch-off disable deactivate
    kilometre kilometer km kms kilometres kilometers / metre meter / centimetre centimeter cm
    millimetre millimeter mm / kilogram kilo kg kgs / gram gramme g / mile mi / foot feet ft
    inch inches / pound lb lbs / litre liter / celsius centigrade / fahrenheit
    hour hr hrs / minute min mins / seconds sec secs / percent % percentage / degree °
    dollar usd $ buck / euro eur € / sterling gbp £ / yen jpy ¥ / rupee inr ₹
    kilobyte kb / megabyte mb / gigabyte gb / terabyte tb
    """
"""Groups of words that may stand for each other."""

OPPOSITES: Final = """
    open close / buy sell / increase decrease / raise lower / rise fall / start stop end
    begin end
    on off / up down / in out / enable disable / turn-on turn-off / add remove delete subtract
    multiply divide / import export / upload download / install uninstall reinstall / lock unlock
    login logout / signup unsubscribe / subscribe unsubscribe / send receive / lend borrow
    push pull / win lose / accept reject decline refuse / allow deny forbid block prevent
    approve disapprove / agree disagree / like dislike / love hate / connect disconnect
    encrypt decrypt / encode decode / compress decompress / expand collapse / show hide
    attach detach / include exclude / gain lose / save spend / earn spend / deposit withdraw
    arrive depart leave / enter exit / early late / first last / before after / above under
    hot cold / warm cool / big small / long short / tall short / high low / deep shallow
    wide narrow / thick thin / heavy light / fast slow / strong weak / hard soft easy / rich poor
    young old / new old used / good bad / best worst / better worse / safe dangerous unsafe
    legal illegal / possible impossible / true false / right wrong left / left right
    male female / man woman / boy girl / men women / husband wife / father mother / son daughter
    brother sister / king queen / uncle aunt / public private / visible invisible
    manual automatic
    online offline / free paid / cheap expensive / cheaper dearer / more less fewer
    most least fewest / many few / maximum minimum / max min / largest smallest / longest shortest
    highest lowest / fastest slowest / oldest youngest newest / cheapest dearest
    closest farthest
    nearest furthest / earliest latest / advantage disadvantage / pro con
    cause prevent cure effect
    symptom treatment cause cure / question answer / front back / top bottom / inside outside
    north south east west / northern southern eastern western / day night
    morning evening afternoon
    sunrise sunset / summer winter / empty full / full partial / dry wet / clean dirty
    sweet sour
    positive negative / odd even / import export / mute unmute / pause resume / forward backward
    ascending descending / row column / vertical horizontal / input output / read write
    upgrade downgrade / promote demote / hire fire / marry divorce / born die / birth death
    alive dead / lend borrow / rent buy / lease buy / pick-up drop-off / inbound outbound
    incoming outgoing / domestic international / refundable nonrefundable / credit debit
    profit loss / asset liability / debtor creditor / employer employee / teacher student
    doctor patient / landlord tenant / buyer seller / customer supplier
    sender recipient receiver
    gain lose / hypertension hypotension / hyperglycemia hypoglycemia / hyperthermia hypothermia
    breakfast lunch dinner / single double / one-way round-trip return / vegetarian vegan
    acid base
    charge discharge / freeze melt thaw boil / inhale exhale / expand contract / win draw lose
    activate cancel / pay refund / refund exchange replace / cancel renew
    cancel postpone reschedule
    cancel confirm / cancel change / update uninstall / backup restore / minor adult
    before during
    """
"""Groups whose members never stand for each other: a word of a group must be on both sides."""

SIBLINGS: Final = """
    monday tuesday wednesday thursday friday saturday sunday weekday weekend
    today tomorrow yesterday tonight
    january february march april june july august september october november december
    jan feb mar apr jun jul aug sep sept oct nov dec
    spring summer autumn fall winter christmas easter ramadan thanksgiving halloween
    red orange yellow green blue purple violet pink brown black white grey gray gold silver
    usa uk eu canada mexico brazil argentina chile peru colombia france germany spain italy
    portugal
    netherlands holland belgium switzerland austria poland sweden norway denmark finland iceland
    ireland scotland wales england greece turkey russia ukraine romania hungary czechia bulgaria
    serbia croatia china japan korea india pakistan bangladesh indonesia malaysia singapore
    thailand
    vietnam philippines taiwan australia zealand egypt morocco algeria tunisia nigeria kenya
    ethiopia
    ghana africa europe asia antarctica israel iran iraq syria saudi arabia qatar dubai emirates
    cuba
    nepal mongolia kazakhstan georgia armenia latvia lithuania estonia slovakia slovenia
    luxembourg
    paris london berlin madrid rome lisbon amsterdam brussels vienna zurich geneva prague warsaw
    budapest stockholm oslo copenhagen helsinki dublin edinburgh athens istanbul ankara moscow
    kyiv
    tokyo kyoto osaka seoul beijing shanghai delhi mumbai sydney melbourne canberra auckland
    toronto
    vancouver montreal ottawa nyc la chicago boston seattle houston dallas miami atlanta denver
    philadelphia washington california texas florida nevada oregon ohio virginia york angeles
    francisco vegas cairo lagos nairobi hamburg munich frankfurt cologne milan venice florence
    naples
    barcelona valencia lyon marseille nice bangkok hanoi jakarta manila singapore
    english french german spanish italian portuguese dutch swedish norwegian danish finnish polish
    russian ukrainian greek turkish arabic hebrew hindi urdu bengali chinese mandarin japanese
    korean
    vietnamese thai latin american british canadian mexican brazilian indian australian irish
    scottish
    dollar euro sterling pound yen rupee yuan franc peso krona rouble bitcoin ethereum
    kilometre metre centimetre millimetre mile yard foot inch kilogram gram ton tonne ounce stone
    litre gallon pint cup tablespoon teaspoon celsius fahrenheit kelvin percent degree
    hour minute seconds day week month year decade century fortnight quarterly
    daily weekly monthly yearly annual annually hourly
    kilobyte megabyte gigabyte terabyte watt volt amp joule calorie kwh
    mercury venus earth mars jupiter saturn uranus neptune pluto moon sun
    hydrogen helium oxygen nitrogen carbon iron copper zinc lead sodium potassium calcium
    magnesium
    dog cat horse cow pig sheep goat bird fish rabbit hamster snake chicken duck lion tiger
    elephant
    whale dolphin shark bear wolf
    apple banana pear grape lemon lime cherry peach strawberry potato tomato onion garlic carrot
    rice
    bread pasta cheese milk butter egg beef pork fish tea coffee wine beer water juice sugar salt
    mother father parent brother sister son daughter uncle aunt cousin grandmother grandfather
    wife
    husband baby toddler child adult
    head neck shoulder arm elbow wrist hand finger chest stomach back hip leg knee ankle foot toe
    eye
    ear nose tooth heart lung liver kidney brain skin
    football soccer basketball baseball tennis golf hockey rugby cricket volleyball swimming
    guitar piano violin drums flute
    python java javascript typescript rust golang ruby php swift kotlin scala perl c c++ c# sql
    html css bash excel word powerpoint outlook pdf docx csv json xml yaml mp3 mp4 png jpeg gif
    windows linux macos ubuntu debian android ios iphone ipad mac chrome firefox safari
    google apple microsoft amazon facebook netflix spotify paypal visa mastercard amex uber
    whatsapp telegram slack zoom skype instagram twitter tiktok youtube gmail
    mysql postgres postgresql redis mongodb sqlite docker kubernetes aws azure gcp
    ibuprofen paracetamol aspirin acetaminophen metformin insulin antibiotic penicillin
    username password email phone address name birthday pin avatar nickname photo
    visa mastercard debit credit cash cheque check iban
    passport licence license visa id
    breakfast lunch dinner brunch supper bus train plane car taxi tram ship ferry bike metro
    subway
    hotel hostel flight
    economy business premium basic pro enterprise standard deluxe gold platinum
    primary secondary tertiary
    """
"""Words that name one of several: what the one is true of need not be true of the other."""

PHRASES: Final = """
    how many / how much / how long / how often / how far / how old / how big / how tall / how
    high / how deep / how fast / how heavy / how come / how soon / how late / how early / what
    time / what day / what date / what year / what place / what reason / what kind / what type /
    united states / united kingdom / great britain / new york / los angeles / european union /
    log in / log on / log out / log off / sign in / sign out / sign up / turn on / turn off /
    switch on / switch off / set up / cell phone / mobile phone / opening hours / look for / get
    rid of / instead of / rather than / take place / work out / call off / send back / money
    back / e mail / capital city / well known / wi fi / best way / easiest way / right way /
    correct way / proper way / simplest way / at least / at most / more than / less than / no
    longer / not only / pick up / drop off / one way / round trip / get in touch / in touch /
    get hold / head of state / in advance
    """
"""Words that are one word together, joined by a dash."""

REWORDED: Final = {
    "get-rid-of": "delete",
    "how-come": "why",
    "what-time": "when",
    "what-day": "when",
    "what-date": "when",
    "what-year": "when-year",
    "what-place": "where",
    "what-reason": "why",
    "log-off": "logout",
    "no-longer": "¬longer",
    "instead-of": "¬instead",
    "rather-than": "¬instead",
    "how-big": "size",
    "get-in-touch": "reach",
    "in-touch": "reach",
    "get-hold": "reach",
    "what-kind": "what",
    "what-type": "what",
    "best-way": "way",
    "easiest-way": "way",
    "right-way": "way",
    "correct-way": "way",
    "proper-way": "way",
    "simplest-way": "way",
}
"""What some of them come to."""

PREFIXES: Final = tuple(
    listed(
        """
    un in im ir il dis non mis de re anti over under pre sub co hyper hypo micro mega inter intra
    """
    )
)
"""With one of these a word is another one, and often its opposite."""

COMPARED: Final = frozenset(
    listed(
        """
    cheap big large small fast slow quick old young new tall short long high low deep wide
    narrow heavy light hot cold warm cool near far close early late easy hard soft strong
    weak rich poor safe clean dirty loud quiet bright dark thick thin smart happy healthy
    busy simple great few dear sweet dry wet full rare common tough nice
    """
    )
)
"""Adjectives whose -er and -est are told apart from themselves."""
