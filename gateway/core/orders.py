"""How orders to a model are worded in languages other than English: data, and three questions.

Strategy: a table a language. A text is looked at closely only where one of its words could begin
an order (a set of word forms: 1 µs for 20 words); then patterns made of the tables decide. What
is ordinary in all of them is left alone: "vergiss nicht …", "ignora el ruido", "always late".
English stands in `core/suspicion`, whose rules these follow.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Tongue:
    """One language's words, each field a list of alternatives of a pattern.

    `drop` are the verbs of overriding, in the forms that order; `told` what a model was told, and
    `rules` weaker words for it, which count only with one of `former` before or after them. `now`
    is how a model is told to be another. `send` and `private` are what data is sent away with.
    `henceforth`, `ever` with `say`, and `must` make standing orders. An override has one of
    `begins` among its words.
    """

    begins: str
    drop: str
    told: str
    rules: str
    former: str
    now: str
    send: str
    private: str
    henceforth: str
    ever: str
    say: str
    must: str


# fmt: off
SPACED: Final = (
    Tongue(  # German
        begins="ignoriere ignoriert ignorieren vergiss vergesst vergessen missachte umgehe"
               " überspringe jetzt nun ab tu verhalte",
        drop="ignorier(?:e|t|en sie)|vergiss|vergesst|vergessen sie|missachte|umgehe|überspringe",
        told="anweisung(?:en)?|instruktion(?:en)?|vorgaben|richtlinien|system-?prompts?|prompts?",
        rules="regeln?|befehle?|beschränkungen|nachrichten|kontext",
        former="alle|sämtliche|deine|ihre|vorherigen?|vorigen?|bisherigen?|obigen?|früheren?|oben",
        now="du bist (?:ab )?(?:jetzt|nun) (?:ein|eine|kein|dan)|ab jetzt bist du|"
            "tu so,? als (?:ob|wärst)|verhalte dich (?:wie|als)",
        send="sende|schicke?|leite|übermittle|übertrage|poste|lade|hänge|füge",
        private="unterhaltung|gespräch|chat|verlauf|nachrichten|erinnerungen|daten|passw[oö]rt"
                "|geheim|zugangsdaten|alles",
        henceforth="ab (?:jetzt|sofort|heute)|von nun an|künftig|in zukunft"
                   "|in (?:jeder|allen|jedem) (?:künftigen )?"
                   "(?:antwort|nachricht|unterhaltung|chat)",
        ever="immer|stets|nie|niemals|jedes mal|unbedingt",
        say="empf[ie]+hl|erwähn|sag|antwort|nenn|benutz|verwend|schreib|füg|verlink|vertrau|zitier"
            "|bewirb|beginn|beend|befolg|gehorch",
        must="(?:der assistent|die ki|das modell|der bot|der chatbot|du) "
             "(?:muss|soll|darf|hat|hast)",
    ),
    Tongue(  # French
        begins="ignore ignores ignorez oublie oublies oubliez néglige négligez neglige"
               " negligez contourne contournez fais faites maintenant désormais desormais"
               " comporte",
        drop="ignore[zs]?|oublie[zs]?|n[ée]glige[zs]?|contourne[zs]?|fais abstraction"
             "|faites abstraction",
        told="instructions?|consignes?|directives?|prompts?|invites? syst[èe]me",
        rules="r[èe]gles?|ordres|messages?|contexte|restrictions?|limites",
        former="toutes?|tous|tes|vos|pr[ée]c[ée]dent(?:e|es|s)?|ant[ée]rieure?s?|ci-dessus|initiales?",
        now="tu es (?:maintenant|d[ée]sormais) (?:un|une|dan)|d[ée]sormais,? tu es"
            "|vous [êe]tes (?:maintenant|d[ée]sormais) une?|comporte-toi comme|fais comme si",
        send="envoie[zs]?|transmets|transmettez|transf[èe]re[zs]?|publie[zs]?|ajoute[zs]?|poste[zs]?",
        private="conversations?|historique|messages?|souvenirs|m[ée]moire|donn[ée]es|mots? de passe"
                "|secrets?|identifiants|tout",
        henceforth="d[ée]sormais|dor[ée]navant|[àa] partir de maintenant|[àa] l'avenir"
                   "|dans (?:chaque|toutes) (?:les )?(?:r[ée]ponses?|messages?|conversations?)",
        ever="toujours|jamais|chaque fois|syst[ée]matiquement",
        say="recommand|mentionn|di[st]|r[ée]pond|cite|utilis|[ée]cri[st]|ajout|inclu|sugg[èe]r"
            "|conseill|promeu|commenc|termin|ob[ée]i",
        must="(?:l'assistant|l'ia|le mod[èe]le|le bot|le chatbot|tu) (?:doi[st]|devra[s]?)",
    ),
    Tongue(  # Spanish
        begins="ignora ignore ignoren ignores olvida olvide olviden olvides omite omita"
               " descarta descarte salta eres actúa actua finge",
        drop="ignora|ignore[ns]?|olvida|olvide[ns]?|omite|omita|descarta|descarte|salta",
        told="instrucci[oó]n(?:es)?|directrices|indicaciones|prompts?",
        rules="reglas?|normas|[oó]rdenes|mensajes?|contexto|restricciones",
        former="todas?|todos|tus|sus|anterior(?:es)?|previ[ao]s?|de arriba|iniciales",
        now="(?:ahora|a partir de ahora) eres una?|ahora eres dan|act[uú]a como si|finge ser",
        send="env[ií][ae]|manda|mande|reenv[ií]a|publica|publique|adjunta|sube|transmite|a[ñn]ade",
        private="conversaci[oó]n(?:es)?|chat|historial|mensajes?|memorias?|recuerdos|datos"
                "|contrase[ñn]as?|secretos?|credenciales|todo",
        henceforth="a partir de ahora|de ahora en adelante|desde ahora|en el futuro"
                   "|en (?:cada|todas) (?:las )?(?:respuestas?|mensajes?|conversaci[oó]n(?:es)?)",
        ever="siempre|nunca|jam[aá]s|cada vez",
        say="recom[ie]+nd|menci[oó]n|d[ií]|respond|contest|cit[ae]|us[ae]|escrib|a[ñn]ad|incluy"
            "|sug[ie]+r|promoc|empi[ez]|termin|obede",
        must="(?:el asistente|la ia|el modelo|el bot|t[uú]) (?:debe|tiene|ha de|debes|tienes)",
    ),
    Tongue(  # Portuguese
        begins="ignora ignore esqueça esqueca desconsidera desconsidere descarta descarte"
               " contorna contorne agora aja finja",
        drop="ignor[ea]|esque[çc]a|desconsider[ea]|descart[ea]|contorn[ea]",
        told="instru[çc](?:ão|ões|oes)|diretrizes|orienta[çc](?:ões|oes)|prompts?",
        rules="regras?|ordens|mensagens|contexto|restri[çc](?:ões|oes)",
        former="todas?|todos|suas?|seus|tuas?|anteriores?|pr[ée]vias?|acima|iniciais",
        now="(?:agora|a partir de agora),? (?:voc[êe]|tu) [ée]s? uma?|aja como se|finja ser",
        send="envi[ea]|mand[ea]|encaminh[ea]|publi(?:que|ca)|anex[ea]|transmit[ea]|adicione",
        private="conversas?|chat|hist[óo]rico|mensagens|mem[óo]rias?|dados|senhas?|segredos?"
                "|credenciais|tudo",
        henceforth="a partir de agora|de agora em diante|daqui (?:em|para a) (?:diante|frente)"
                   "|no futuro|em (?:cada|todas) (?:as )?(?:respostas?|mensagens|conversas?)",
        ever="sempre|nunca|jamais|toda vez",
        say="recomend|mencion|diga|respond|cit[ea]|us[ea]|escrev|adicion|inclu|sugir|promov|comec"
            "|termin|obede",
        must="(?:o assistente|a ia|o modelo|o bot|voc[êe]) (?:deve|tem|precisa)",
    ),
    Tongue(  # Italian
        begins="ignora ignorate dimentica dimenticate trascura tralascia scarta sei comportati"
               " fingi",
        drop="ignora(?:te)?|dimentica(?:te)?|trascura|tralascia|scarta",
        told="istruzion[ei]|direttive|indicazioni|prompt",
        rules="regol[ae]|ordini|messaggi|contesto|restrizioni|limiti",
        former="tutt[ei]|tue|tuoi|vostre|precedent[ei]|sopra|iniziali",
        now="(?:ora|adesso|da ora in poi) sei una?|comportati come se|fingi di essere",
        send="invia(?:te)?|manda(?:te)?|inoltra|trasmetti|pubblica|allega|aggiungi",
        private="conversazion[ei]|chat|cronologia|messaggi|ricordi|memoria|dati|password|segret[oi]"
                "|credenziali|tutto",
        henceforth="d'ora in (?:poi|avanti)|da ora in (?:poi|avanti)|in futuro|da adesso"
                   "|in (?:ogni|tutte le) (?:rispost[ae]|messagg\\w+|conversazion\\w+)",
        ever="sempre|mai|ogni volta",
        say="raccomand|consigli|menzion|di'|dici|rispond|cita|usa|scriv|aggiung|includ|suggeri"
            "|promuov|inizia|termina|obbedi",
        must="(?:l'assistente|l'ia|il modello|il bot|tu) (?:deve|devi|dovr)",
    ),
    Tongue(  # Dutch
        begins="negeer vergeet sla omzeil bent doe gedraag",
        drop="negeer|vergeet|sla|omzeil",
        told="instructies?|aanwijzingen|richtlijnen|prompts?",
        rules="regels?|opdrachten|berichten|context|beperkingen",
        former="alle|jouw|je|uw|vorige|eerdere|bovenstaande|voorgaande|hierboven",
        now="je bent (?:nu|vanaf nu) een|doe alsof je|gedraag je als",
        send="stuur|verstuur|verzend|zend|plaats|upload|voeg",
        private="gesprek(?:ken)?|chat|geschiedenis|berichten|herinneringen|geheugen|gegevens"
                "|wachtwoord(?:en)?|geheim|alles",
        henceforth="vanaf nu|voortaan|in de toekomst"
                   "|in (?:elk|elke|alle|ieder) (?:antwoord(?:en)?|bericht(?:en)?|gesprek(?:ken)?)",
        ever="altijd|nooit|telkens|steeds",
        say="beve[el]{1,3}|raad|noem|vermeld|zeg|antwoord|gebruik|schrijf|voeg|citeer|begin|eindig"
            "|gehoorzaam",
        must="(?:de assistent|de ai|het model|de bot|je) (?:moet|dient)",
    ),
    Tongue(  # Russian
        begins="игнорируй игнорируйте проигнорируй проигнорируйте забудь забудьте пропусти"
               " пропустите отбрось отбросьте обойди обойдите теперь отныне веди притворись",
        drop="игнорируй(?:те)?|проигнорируй(?:те)?|забудь(?:те)?|пропусти(?:те)?|отбрось(?:те)?"
             "|обойди(?:те)?",
        told="инструкци\\w+|указани\\w+|промпт\\w*|директив\\w+",
        rules="правил\\w*|команд\\w*|приказ\\w*|сообщени\\w+|контекст\\w*|ограничени\\w+",
        former="все|всех|предыдущ\\w+|прежни\\w+|прошл\\w+|свои|твои|ваши|выше|системн\\w+",
        now="теперь ты (?:—|-|dan|бот|ассистент|модель|ии)|отныне ты|веди себя как|притворись",
        send="отправь(?:те)?|отправляй(?:те)?|перешли(?:те)?|пошли(?:те)?|передай(?:те)?|опубликуй",
        private="разговор\\w*|переписк\\w+|сообщени\\w+|истори\\w+|данн\\w+|парол\\w+|памят\\w+"
                "|секрет\\w*|всё|все",
        henceforth="отныне|впредь|с этого момента|с этой минуты|в дальнейшем|в будущем"
                   "|в (?:каждом|каждый|каждую|всех) (?:ответ\\w*|сообщени\\w+|разговор\\w*)",
        ever="всегда|никогда|каждый раз|обязательно",
        say="рекоменд|упомин|говори|скажи|отвеча|цитир|использ|пиши|добавля|включа|предлага|начина"
            "|заканчива|подчиня",
        must="(?:ассистент|модель|бот|чат-бот|ии|ты) (?:долж\\w+|обяза\\w+)",
    ),
    Tongue(  # Arabic
        begins="تجاهل تجاهلي انس انسى أهمل تخط الآن تصرف تظاهر",
        drop="تجاهل|تجاهلي|انس|انسى|أهمل|تخط",
        told="التعليمات|تعليماتك|التوجيهات|الإرشادات|الأوامر|أوامرك",
        rules="القواعد|قواعدك|الرسائل|السياق|القيود",
        former="جميع|كل|السابقة|أعلاه|الأصلية",
        now="أنت الآن|من الآن أنت|تصرف كأنك|تظاهر بأنك",
        send="أرسل|ارسل|انشر|حمل|أضف|انقل",
        private="المحادثة|المحادثات|الرسائل|البيانات|بيانات|كلمة المرور|كلمات المرور|السجل|الذاكرة"
                "|الأسرار|كل شيء",
        henceforth="من الآن فصاعدا|من الآن فصاعدًا|منذ الآن|في كل (?:رد|رسالة|محادثة|إجابة)",
        ever="دائما|دائمًا|أبدا|أبدًا|في كل مرة",
        say="أوص|اذكر|قل|أجب|رد|استخدم|اكتب|أضف|اقترح|ابدأ|روج",
        must="(?:المساعد|النموذج|الروبوت|أنت) (?:يجب|عليه|عليك|ملزم)|(?:يجب|ينبغي) على المساعد",
    ),
)
UNSPACED: Final = (
    # Chinese
    r"(?:忽略|忽視|无视|無視|忘记|忘記|忘掉|不要理会|不用理会|绕过|繞過)"
    r".{0,6}(?:之前|以前|先前|上述|以上|上面|前面|所有|全部|一切|你的|系统|系統|原来|原本).{0,10}"
    r"(?:指令|指示|提示词?|規則|规则|命令|设定|設定|要求|限制)",
    r"(?:忽略|无视|無視).{0,12}(?:指令|指示|提示词)",
    r"(?:你现在是|你現在是|从现在开始,?你是|从现在起,?你是)一?[个個名位种]|从现在(?:起|开始).{0,3}你就是",
    r"(?:透露|泄露|洩露|输出|輸出|显示|重复|告诉我).{0,6}(?:系统提示|系統提示|提示词|密码|密碼|密钥)",
    # Japanese
    r"(?:以前|これまで|今まで|上記|すべて|全て|あなた|前|先ほど)の?.{0,8}"
    r"(?:指示|命令|プロンプト|ルール|規則|指令|制約).{0,4}(?:無視|忘れ|破棄|従わな)",
    r"(?:今から|これから|今後)、?(?:あなた|君|お前)は|(?:あなた|君|お前)は(?:今から|これから)",
    r"(?:システムプロンプト|パスワード|秘密).{0,6}(?:教え|表示し|出力し|明かし)",
    # Korean
    r"(?:이전|앞선|앞의|위의|모든|기존|지금까지|너의|당신의)의?.{0,10}"
    r"(?:지시|명령|프롬프트|규칙|지침|제한).{0,6}(?:무시|잊어|잊으|따르지)",
    r"(?:너는|당신은|넌) (?:이제|지금)(?:부터)?|이제부터 (?:너는|당신은|넌)",
    r"시스템 ?프롬프트.{0,6}(?:알려|출력|보여|공개)",
    # Hindi
    r"(?:पिछल[ेी]|सभी|सारे|पहले|ऊपर|अपने|पूर्व).{0,20}(?:निर्देश|नियम|आदेश|हिदायत)\S{0,12}.{0,15}"
    r"(?:अनदेखा|नज़रअंदाज़|नजरअंदाज|भूल|भुला|उपेक्षा)",
    r"(?:अब|अब से) (?:तुम|आप|तू) एक ",
)
UNSPACED_SENDS: Final = (
    (r"发送|发到|发给|傳送|转发|轉發|上传|上傳|提交",
     r"对话|對話|聊天|消息|訊息|记录|記錄|记忆|数据|密码|内容"),
    (r"送信|送って|転送|アップロード|投稿",
     r"会話|履歴|メッセージ|記憶|データ|パスワード|内容|秘密"),
    (r"보내|전송|업로드|전달", r"대화|메시지|기록|기억|데이터|비밀번호|내용"),
    (r"भेज", r"बातचीत|संदेश|डेटा|पासवर्ड|इतिहास|जानकारी"),
)
UNSPACED_ORDERS: Final = (
    r"从现在(?:起|开始)|今后|從現在起|以后(?:都|每次|总是)|每次(?:回答|回复|都)|(?:总是|始终|永远|务必|必须|一定要)"
    r".{0,8}(?:推荐|提到|回答|回复|使用|说|引用|包含|称赞)",
    r"(?:助手|助理|模型|机器人|你)(?:必须|应该|应当|务必|一定要)",
    r"今後は|これからは|以降は|毎回|(?:常に|必ず|いつも|絶対に).{0,20}(?:推薦|勧め|答え|回答|言及|使用|使っ|述べ)",
    r"(?:アシスタント|モデル|ボット|ai)は.{0,20}(?:しなければ|すべき|必要が)",
    r"앞으로|이제부터|지금부터|매번|(?:항상|반드시|절대|언제나).{0,20}(?:추천|언급|대답|답변|사용|말하)",
    r"(?:어시스턴트|모델|챗봇|봇|ai)[는은].{0,20}(?:해야|하여야)",
    r"अब से|आगे से|भविष्य में|हर (?:जवाब|उत्तर|बार)|(?:हमेशा|कभी नहीं|ज़रूर).{0,25}(?:सिफारिश|सुझा|बता|कह|लिख)",
)
# fmt: on

_DESTINATION = re.compile(r"https?://|www\.|webhook|[\w.+-]{1,64}@[\w-]{1,64}\.", re.IGNORECASE)
AROUND: Final = 120
"""Characters before and after an address in which it is said what goes there."""
_UNLATIN = re.compile("[\u0900-\u097f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_NOT = r"(?!\W{1,3}(?:nicht|pas|niet|não|non)\b)"
_BEFORE = "(?<!n')(?<!no )(?<!não )(?<!non )(?<!не )(?<!لا )"


def _any(parts: Iterable[str]) -> str:
    return "|".join(parts)


_OVERRIDE = [
    (
        frozenset(t.begins.split()),
        re.compile(
            rf"\b{_BEFORE}(?:{t.drop})\b{_NOT}.{{0,40}}(?<!\w)(?:{t.told})(?!\w)"
            rf"|\b{_BEFORE}(?:{t.drop})\b{_NOT}.{{0,30}}(?<!\w)(?:{t.former})(?!\w).{{0,25}}"
            rf"(?<!\w)(?:{t.rules})(?!\w)"
            rf"|\b{_BEFORE}(?:{t.drop})\b{_NOT}.{{0,30}}(?<!\w)(?:{t.rules})(?!\w).{{0,15}}"
            rf"(?<!\w)(?:{t.former})(?!\w)"
            rf"|(?<!\w)(?:{t.now})(?!\w)",
        ),
    )
    for t in SPACED
]
_BEGINS = frozenset().union(*(begins for begins, _ in _OVERRIDE))
_SENDS = [
    (
        re.compile(rf"(?<!\w)(?:{t.send})(?!\w)", re.IGNORECASE),
        re.compile(rf"(?<!\w)(?:{t.private})", re.IGNORECASE),
    )
    for t in SPACED
] + [(re.compile(send), re.compile(private)) for send, private in UNSPACED_SENDS]
_ORDERS = [
    re.compile(
        rf"(?<!\w)(?:{t.henceforth})(?!\w)|(?<!\w)(?:{t.must})"
        rf"|(?<!\w)(?:{t.ever})(?!\w).{{0,25}}(?<!\w)(?:{t.say})"
        rf"|(?<!\w)(?:{t.say})\w{{0,20}}.{{0,25}}(?<!\w)(?:{t.ever})(?!\w)",
        re.IGNORECASE,
    )
    for t in SPACED
]
_UNSPACED = re.compile(_any(UNSPACED))
_UNSPACED_ORDERS = re.compile(_any(UNSPACED_ORDERS))


def overrides(low: str, words: Set[str]) -> bool:
    """Whether a text orders a model to drop what it was told, or to be another.

    `low` is the text in small letters, `words` the words in it.
    """
    if not words.isdisjoint(_BEGINS):
        for begins, order in _OVERRIDE:
            if not words.isdisjoint(begins) and order.search(low):
                return True
    return not low.isascii() and bool(_UNLATIN.search(low) and _UNSPACED.search(low))


def sends_away(low: str) -> bool:
    """Whether a text orders what was said, or is secret, to be sent to an address in it."""
    at = 0
    while address := _DESTINATION.search(low, at):
        # Two windows' length: of many addresses in a row not each is looked at by itself.
        around = low[max(0, address.start() - AROUND) : address.start() + 2 * AROUND]
        if any(send.search(around) and private.search(around) for send, private in _SENDS):
            return True
        at = address.start() + AROUND
    return False


def standing_order(low: str) -> bool:
    """Whether a text tells a model how to behave from now on."""
    if any(pattern.search(low) for pattern in _ORDERS):
        return True
    return not low.isascii() and bool(_UNLATIN.search(low) and _UNSPACED_ORDERS.search(low))
