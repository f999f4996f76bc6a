"""The words by which languages of the Latin and Cyrillic scripts are told apart.

A few dozen a language: the commonest words of speech and writing, and what callers open with
(`hello`, `gracias`). Chosen by hand from knowledge of the languages, tuned on nothing. A word that
several languages share counts for each of them, and less.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

WORDS: Final[Mapping[str, str]] = {
    "en": "the and of to is are was were you your i my me we it its this that these what when"
    " where who why how which can could would should will do does did don't i'm it's not no"
    " yes have has with for from on at by be been an or but if please thanks thank hello hi"
    " hey okay they their there about want need just some any all than then them into only"
    " other here get make know like time two first very",
    "de": "der die das und ist nicht ich du sie wir ihr mein meine dein ein eine einen einem"
    " einer den dem des mit von für auf zu im in am auch aber oder wenn wie was wo wer warum"
    " wann kann können könnte möchte bitte danke hallo guten tag ja nein haben habe hat sind"
    " war wird werden noch nur schon sehr es bei nach über uns mir mich dass kein keine alle"
    " alles mehr als doch dann diese dieser dieses durch sollte muss müssen will wollen hier"
    " jetzt heute gibt keinen seine",
    "fr": "le la à les un une des du de et est sont je tu il elle nous vous ils mon ma mes ton"
    " votre vos ce cette ces que qui quoi où quand comment pourquoi pas ne plus pour avec"
    " dans sur par en au aux mais ou si oui non merci bonjour salut être avoir suis avez"
    " peut pouvez voudrais c'est l' d' j' qu' n' s' j'ai très bien s'il plaît d'un qu'il"
    " quel quelle était leur tout tous toute autre sans sous entre deux fait faire doit même"
    " ici donc alors cela ses son sa aucun aucune chaque",
    "es": "el la los las un una unos y es son yo tú usted nosotros mi mis tu su sus que qué quién"
    " dónde cuándo cómo cuál cuánto por para con en de del al no sí pero o si más muy está"
    " están estoy hay tengo tiene quiero puede puedo hola gracias favor buenos buenas días"
    " este esta esto me se lo le ser fue como también porque sobre todo todos toda sin hasta"
    " desde entre ha han sido otro otra debe solo sólo nada hacer aquí ahora cada uno ya ni"
    " eso les sea deben nos donde cuando",
    "pt": "o os as um uma e é são eu você nós meu minha seu sua que quem onde quando como qual"
    " quanto por para com em de do da dos das no na nos nas não sim mas ou se mais muito"
    " está estão estou tem tenho quero pode posso olá oi obrigado obrigada favor bom boa dia"
    " este esta isso isto me ser foi também porque ao à pelo sobre tudo todos sem até desde"
    " entre há foram outro outra deve só nada fazer aqui agora cada já nem dois pelos pela"
    " seus suas",
    "it": "il lo la i gli le un uno una e è sono io tu lei noi mio mia tuo suo che chi dove"
    " quando come quale quanto perché per con in di del della dei delle al alla nel nella"
    " non sì no ma o se più molto ho ha hai voglio vorrei può posso ciao grazie buongiorno"
    " questo questa questi mi si da essere stato anche ci c'è l' d' un' all' dell' nell'"
    " sull' quell' su tutto tutti senza fino fra tra stati altro altra deve solo nulla fare"
    " qui ora ogni già né due sul sulla dal dalla alle agli degli nei nelle loro",
    "nl": "de het een en is zijn ik jij je u wij we mijn jouw uw niet geen wat wie waar wanneer"
    " hoe waarom welke kan kunt kunnen zou wil met van voor op in aan naar bij ook maar of"
    " als dan nog al heeft heb hebben was wordt worden ja nee hallo dank bedankt alstublieft"
    " goedemorgen dit dat deze die er mij me te om uit over alleen hier nu moet andere alle"
    " zonder door tot toch iets niets weer meer",
    "sv": "och att det är som en ett jag du han hon vi ni min mitt din den de inte vad vem var"
    " när hur varför vilken kan skulle vill med av för på i till om men eller också har hade"
    " ska blir ja nej hej tack snälla god mig dig sig från här där nu mycket finns detta"
    " alla denna dessa mellan utan efter bara andra måste kunde igen upp ut genom vara varit"
    " blev ingen inga något några",
    "da": "og at det er som en et jeg du han hun vi min mit din den de ikke hvad hvem hvor"
    " hvornår hvordan hvorfor hvilken kan ville vil med af for på i til om men eller også"
    " har havde var skal bliver ja nej hej tak venligst god mig dig sig fra her der nu meget"
    " findes dette efter blev alle denne disse mellem uden kun andre må kunne skulle igen op"
    " ud gennem være været ingen noget nogle flere fordi hvis både altså lige vores deres"
    " hvilke brug vælg",
    "nb": "og at det er som en et jeg du han hun vi dere min mitt din den de ikke hva hvem hvor"
    " når hvordan hvorfor hvilken kan ville vil med av for på i til om men eller også har"
    " hadde var skal blir ja nei hei takk vennligst god meg deg seg fra her der nå mye"
    " finnes dette etter ble alle denne disse mellom uten bare andre må kunne skulle igjen"
    " opp ut gjennom være vært ingen noe noen flere fordi hvis både altså like våre deres"
    " hvilke bruk velg",
    "fi": "ja on ei se että minä sinä hän me te he minun sinun olen olet oli ovat mikä mitä kuka"
    " missä milloin miten miksi voi voin voisi haluan kanssa mutta tai jos myös niin kun nyt"
    " tämä tämän hei moi kiitos kyllä hyvää huomenta joka jotka ole en olla sen siitä voitko"
    " paljon kaikki ilman jälkeen vain toinen täytyy pitää uudelleen enemmän eivät kuin sekä"
    " ennen jokin saa tulee tästä täällä jo vielä nämä",
    "pl": "i w na z do jest są nie się to co kto gdzie kiedy jak dlaczego który która które ja ty"
    " on ona my wy mój moja mam masz ma czy może mogę chcę chciałbym proszę dziękuję cześć"
    " tak ale lub jeśli też już tylko bardzo dla od po przez za przy ten ta tego być był"
    " było będzie dzień dobry wszystkie bez jednak inne musi teraz tutaj więcej niż więc"
    " przed każdy jeden ich jej jego",
    "cs": "a v na z do je jsou není se to co kdo kde kdy jak proč který která které já ty on ona"
    " my vy můj moje mám máš má mohu můžete chci chtěl prosím děkuji ahoj ano ne ale nebo"
    " jestli také už jen velmi pro od po při za ten ta toho být byl bylo bude dobrý den jsem"
    " jste si že všechny bez jiný jiné musí nyní teď tady více než před každý jeden jejich"
    " její jeho jsme byla byly",
    "hu": "a az és van nem hogy egy én te ő mi ti ők ez ezt azt mit ki hol mikor hogyan miért"
    " melyik lehet kell szeretnék tudok tud kérem köszönöm szia igen de vagy ha is már csak"
    " nagyon jó napot volt lesz vagyok meg mint még be el fel nincs minden nélkül után másik"
    " most itt több előtt egyik ezek azok volna lett",
    "ro": "și în de la cu pe este sunt nu un o eu tu el ea noi voi meu mea ce cine unde când cum"
    " care cât pentru din dar sau dacă mai foarte am ai are vreau pot poate aș vă rog"
    " mulțumesc bună ziua salut da acest această să se fi fost ca lui lor prin toate toți"
    " fără după doar alt alta trebuie acum aici mult decât înainte fiecare unul ei cel cea"
    " cei",
    "tr": "ve bir bu şu o ben sen biz siz onlar benim senin ne kim nerede zaman nasıl neden hangi"
    " var yok değil evet hayır mı mi mu mü için ile de da ama veya eğer çok daha en gibi"
    " kadar istiyorum lütfen teşekkürler merhaba selam günaydın olarak olan oldu olur"
    " olabilir bana ki tüm bütün sonra sadece başka gerekir şimdi burada fazla önce her biri"
    " onların olması değildir ancak ise",
    "vi": "và là của có không cho với này được trong một những các tôi bạn anh chị em chúng ta gì"
    " ai đâu khi nào như thế tại sao muốn cần xin chào cảm ơn vâng dạ nhưng hoặc nếu cũng đã"
    " đang sẽ rất ở từ đến người làm thì mà về để tất cả sau chỉ khác phải bây giờ đây nhiều"
    " hơn trước mỗi họ đó nhau nên vào ra",
    "id": "yang dan di ke dari ini itu adalah ada tidak bukan saya aku kamu anda kami kita mereka"
    " apa siapa mana kapan bagaimana mengapa kenapa bisa dapat mau ingin akan sudah belum"
    " untuk dengan pada tetapi tapi atau jika juga sangat lebih tolong terima kasih halo ya"
    " selamat pagi oleh dalam sebagai semua tanpa setelah hanya lain harus sekarang sini"
    " banyak daripada sebelum setiap satu telah hal",
    "ru": "и в не на что я он она мы вы ты они это как так но а же по из за от о для если или где"
    " когда почему кто какой мой моя у меня мне вас есть был быть да нет привет здравствуйте"
    " спасибо пожалуйста можно могу хочу очень уже только все еще всех без после другой"
    " должен должна сейчас здесь больше чем перед каждый один их её его эта этот эти этого"
    " при до то бы ли с к вам нас",
    "uk": "і в не на що я він вона ми ви ти вони це як так але а ж по з із за від про для якщо"
    " або де коли чому хто який мій моя у мене мені вас є був бути ні привіт вітаю дякую"
    " будь ласка можна можу хочу дуже вже тільки все ще та всі всіх без після інший повинен"
    " зараз тут більше ніж перед кожен один їх її його ця цей ці цього при до то би чи нас",
    "bg": "и в не на че аз той тя ние вие ти те това как така но а по от за със с ако или къде"
    " кога защо кой какъв моят моята мен ме ви съм е са беше да здравейте здрасти благодаря"
    " моля мога искам много вече само всичко още към се ще си всички без след друг трябва"
    " сега тук повече отколкото преди всеки един техните тази този тези при до няма има сте"
    " сме били бъде който която което които ли",
    "sr": "и у не на да ја он она ми ви ти они то како тако али а по из за од о ако или где када"
    " зашто ко какав мој моја мене ме вас је сам су био бити здраво хвала молим могу желим"
    " веома већ само све још шта се који сви без после други треба сада овде више него пре"
    " сваки један њихов ова овај ове ово при до нема има сте смо били буде која које",
    "ar": "",
    "fa": "",
    "ur": "",
    "he": "",
    "el": "",
    "hi": "",
    "mr": "",
    "bn": "",
    "pa": "",
    "gu": "",
    "ta": "",
    "te": "",
    "kn": "",
    "ml": "",
    "si": "",
    "th": "",
    "lo": "",
    "my": "",
    "km": "",
    "ka": "",
    "hy": "",
    "am": "",
    "ko": "",
    "ja": "",
    "zh": "",
}
"""By ISO 639-1 code; empty where the script says enough. Norwegian is `nb`: YAML reads `no` as
false."""

LANGUAGES: Final = tuple(WORDS)
