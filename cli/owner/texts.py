"""Words of the owner's page, English and Chinese. Owns every sentence on it; computes nothing.

Each entry is (English, 简体中文). Values in braces are filled in by the page, escaped.
"""

from __future__ import annotations

from typing import Final, Literal

Locale = Literal["en", "zh-CN"]
LOCALES: Final[tuple[Locale, ...]] = ("en", "zh-CN")
LANGUAGES: Final[dict[Locale, str]] = {"en": "English", "zh-CN": "简体中文"}

_TEXTS: Final[dict[str, tuple[str, str]]] = {
    "title": ("This device and you", "这台设备与您"),
    "lead": (
        "Everything on this page was read on this device. The page loads nothing from anywhere, and sends nothing by itself.",
        "本页内容全部在本设备上读取。页面不从任何地方加载内容，也不会自行发送任何内容。",
    ),
    "skip": ("Skip to the content", "跳到正文"),
    "language": ("Language", "语言"),
    "sections": ("Sections of this page", "本页各部分"),
    "device": ("Device", "设备"),
    "read_at": ("read {time}", "读取于 {time}"),
    "handle_none": ("Not enrolled: the service knows nothing about this device.", "尚未登记：服务方对本设备一无所知。"),
    "handle": ("Known to the service as {handle}, a random name.", "服务方所知的代号：{handle}（随机生成）。"),
    "unreadable": (
        "One part could not be read: {part} ({error}). The others are complete.",
        "有一部分无法读取：{part}（{error}）。其余部分完整。",
    ),
    "erased": (
        "This device was erased. What it held cannot be read by anyone; the record of what had left remains.",
        "本设备的数据已被擦除，任何人都无法再读取；已离开设备的内容的记录仍然保留。",
    ),
    # at a glance
    "glance": ("At a glance", "概览"),
    "glance_consent": ("purposes you agreed to", "项用途您已同意"),
    "glance_of": ("{count} of {total}", "{count} / {total}"),
    "glance_left": ("messages left in 30 days", "条消息在 30 天内离开设备"),
    "glance_kept": ("were kept back", "条被拦下"),
    "glance_epsilon": ("of the privacy budget spent", "的隐私预算已用"),
    "glance_ads": ("ads chosen on this device", "条广告由本设备选出"),
    # consent
    "consent": ("What I agreed to", "我同意了什么"),
    "consent_lead": (
        "Each purpose is yours to give or take back alone. Taking it back holds on this device at once; refusing costs you nothing but relevance.",
        "每项用途都可以单独同意或撤回。撤回在本设备上立即生效；拒绝不会影响您使用其他功能，只是广告不再那么相关。",
    ),
    "state_yes": ("Permitted", "已允许"),
    "state_no": ("Not permitted", "未允许"),
    "since": ("since {time}", "自 {time}"),
    "until": ("until {time}, then you are asked again", "至 {time}，之后会再次询问您"),
    "receipt": ("receipt {id}", "凭证 {id}"),
    "withdraw_one": ("Withdraw", "撤回"),
    "withdraw_one_named": ("Withdraw: {purpose}", "撤回：{purpose}"),
    "withdraw_all": ("Withdraw everything", "全部撤回"),
    "withdraw_all_hint": (
        "Stops learning, contributing, personalised ads and counting. Nothing has to be explained.",
        "停止学习、贡献、个性化广告和统计，无需说明理由。",
    ),
    "untold": ("Stopped here; the service has not been told yet.", "本设备已停止；尚未通知服务方。"),
    "tell_again": ("Tell the service now", "现在通知服务方"),
    "snapshot": (
        "This is a printed copy: to change anything, run  reticent device page --serve",
        "这是一份静态副本。如需更改，请运行  reticent device page --serve",
    ),
    # journal
    "journal": ("What left my device", "什么离开了我的设备"),
    "journal_lead": (
        "Every message is written down here before it is sent. Nothing else leaves. Your events, searches and comments are in none of them.",
        "每条消息在发送前都会先记录在这里，除此之外没有任何内容离开设备。其中没有您的行为记录、搜索或评论。",
    ),
    "journal_none": ("Nothing has left this device.", "没有任何内容离开过本设备。"),
    "journal_chart": ("Messages that left in the last 30 days, by day", "最近 30 天每天离开设备的消息数"),
    "journal_peak": (
        "{count} messages in 30 days, at most {peak} on one day ({day}).",
        "30 天内共 {count} 条消息，最多的一天为 {peak} 条（{day}）。",
    ),
    "as_table": ("The same as a table", "以表格显示"),
    "class_update": ("about the model, with noise", "关于模型，已加噪"),
    "class_protocol": ("keys of a secure sum", "安全求和的密钥"),
    "class_own": ("your decisions, and documents", "您的决定与公开文件"),
    "class_kept": ("kept back", "被拦下"),
    "journal_latest": ("The latest messages", "最近的消息"),
    "journal_more": ("All {count} lines", "全部 {count} 行"),
    "when": ("When", "时间"),
    "what": ("What", "内容"),
    "purpose": ("Purpose", "用途"),
    "size": ("Size", "大小"),
    "cost": ("ε", "ε"),
    "outcome": ("Outcome", "结果"),
    "sent": ("sent", "已发送"),
    "kept_back": ("kept back: {why}", "被拦下：{why}"),
    "no_purpose": ("nothing about behaviour", "不涉及行为"),
    "day": ("Day", "日期"),
    # ledger
    "ledger": ("What it could reveal", "最多可能泄露多少"),
    "ledger_lead": (
        "ε bounds how much anybody could learn about you from everything that left, whatever else they know: the smaller, the less. It is counted before anything is sent and never goes past the cap.",
        "ε 是一个上限：无论他人还知道什么，从离开设备的全部内容中最多能了解您多少；越小越好。它在发送之前计入，且绝不会超过上限。",
    ),
    "line_user": ("Everything on this device together", "本设备上的全部内容"),
    "line_picks": (
        "Private picks: one answer a week about ads you might like",
        "私密选择：每周一次关于您可能感兴趣的广告的答复",
    ),
    "line_record": ("A single event", "单条记录"),
    "line_spent": (
        "ε = {spent} of at most {cap} in this period of {days} days",
        "本周期（{days} 天）已用 ε = {spent}，上限 {cap}",
    ),
    "line_terms": (
        "at δ = {delta}; neighbouring relation: {relation}; trust: {trust}",
        "δ = {delta}；相邻关系：{relation}；信任前提：{trust}",
    ),
    "trust_distributed": ("secure aggregation and a share of honest devices", "安全聚合与一定比例的诚实设备"),
    "trust_local": ("this device alone", "仅本设备"),
    "trust_central": ("the aggregation server", "聚合服务器"),
    "relation_add_or_remove_one": ("one more or one less", "多一个或少一个"),
    "relation_replace_one": ("one replaced", "替换一个"),
    "line_left": ("left", "剩余"),
    "ledger_releases": ("Every release that was charged", "每一次计入的发布"),
    "ledger_none": ("Nothing has been charged.", "尚未计入任何发布。"),
    "mechanism": ("Mechanism", "机制"),
    "ledger_refused": (
        "{count} releases were refused because they would have passed a limit.",
        "有 {count} 次发布因将超过上限而被拒绝。",
    ),
    # ads
    "ads": ("Why these ads", "为什么看到这些广告"),
    "ads_lead": (
        "Chosen on this device, from a list that is the same for everybody. Nobody was told which ad was chosen, or why. The price of anything never depends on it.",
        "由本设备从对所有人相同的列表中选出。没有人知道选了哪条广告、为什么选它；任何价格都与此无关。",
    ),
    "ads_none": ("No ad has been chosen from your own behaviour.", "还没有根据您的行为选出的广告。"),
    "ad_label": ("Ad", "广告"),
    "ad_who": ("shown for {advertiser}, paid by {payer}", "广告主：{advertiser}；付费方：{payer}"),
    "ad_same": ("shown for and paid by {advertiser}", "广告主及付费方：{advertiser}"),
    "ad_when": ("{time}, model {model}", "{time}，模型 {model}"),
    "ad_score": ("Chance that it interests you", "您可能感兴趣的概率"),
    "ad_personal": ("with what this device knows", "结合本设备所知"),
    "ad_page": ("from the page alone", "仅根据页面"),
    "ad_signals": ("What spoke for it or against it", "支持与反对的因素"),
    "ad_signals_none": ("Nothing in your behaviour made a difference.", "您的行为没有产生影响。"),
    "ad_odds": ("odds × {factor}", "几率 × {factor}"),
    "ad_odds_note": (
        "Each figure says how the odds would change without that group alone; they need not multiply up.",
        "每个数字表示单独去掉该组因素时几率的变化，各组不一定可以相乘。",
    ),
    "ad_certain": (
        "The policy shows the best eligible ad; there was no chance in it.",
        "策略展示符合条件的最佳广告，没有随机成分。",
    ),
    "ad_chance": (
        "The policy would show it again with probability {probability}.",
        "策略再次展示它的概率为 {probability}。",
    ),
    "ad_shares": ("Where the chance comes from, family by family", "概率的来源（按类别）"),
    "ad_additive": ("Exact: multiplied, these factors are the odds.", "精确值：各因子相乘即为几率。"),
    "ad_shapley": (
        "Multiplied, these factors are the odds; each is the average over all orders in which they can be added.",
        "各因子相乘即为几率；每个因子是按所有加入顺序取的平均。",
    ),
    "ad_no_noise": (
        "Nothing was sent when it was chosen, so no noise was needed (ε = 0).",
        "选择时没有发送任何内容，因此无需噪声（ε = 0）。",
    ),
    "ad_noise": (
        "What was sent to choose it had noise in it: ε = {epsilon}.",
        "为选择它而发送的内容加入了噪声：ε = {epsilon}。",
    ),
    "topics": ("Topics of ads", "广告主题"),
    "topics_lead": (
        "Switch off what you do not want to see. What you did about it is then not used for choosing or learning either. This stays on this device.",
        "关闭您不想看到的主题；您与该主题有关的行为也不再用于选择或学习。此设置仅保存在本设备上。",
    ),
    "topic_on": ("allowed", "允许"),
    "topic_off": ("switched off", "已关闭"),
    "topic_stop": ("Switch off", "关闭"),
    "topic_allow": ("Allow again", "重新允许"),
    "topic_stop_named": ("Switch off ads about {topic}", "关闭主题：{topic}"),
    "topic_allow_named": ("Allow ads about {topic} again", "重新允许主题：{topic}"),
    "said_topic": ("Noted on this device; it holds from the next ad on.", "已记录在本设备上，从下一条广告起生效。"),
    "ads_more": ("Earlier ads", "更早的广告"),
    "family_bought": ("what you bought", "您购买过的"),
    "family_engaged": ("what you clicked, saved or put in a cart", "您点击、收藏或加入购物车的"),
    "family_viewed": ("what you looked at", "您浏览过的"),
    "family_shown": ("ads you were shown before", "您之前看到的广告"),
    "family_said": ("words you searched for or wrote", "您搜索或写下的词"),
    "attribute_item": ("of this very product", "同一产品"),
    "attribute_activity": ("altogether", "总体"),
    "attribute_category": ("of the same category", "同一类别"),
    "attribute_type": ("of the same type", "同一类型"),
    "attribute_manufacturer": ("by the same maker", "同一制造商"),
    "attribute_brand": ("of the same brand", "同一品牌"),
    "attribute_department": ("from the same department", "同一部门"),
    "attribute_other": ("with the same {name}", "相同的 {name}"),
    # holdings
    "holdings": ("What is kept here", "本设备保存了什么"),
    "holdings_lead": (
        "Encrypted on this device, never sent, deleted by itself when its time is over.",
        "加密保存在本设备上，绝不发送，到期自动删除。",
    ),
    "holdings_none": ("No behaviour is kept.", "没有保存任何行为记录。"),
    "kind": ("Kind", "种类"),
    "count": ("Records", "条数"),
    "apps": ("From", "来自"),
    "kept_for": ("Kept for", "保存期限"),
    "days": ("{days} days", "{days} 天"),
    "next_deletion": ("Oldest goes in", "最早一条将删除于"),
    "event_view": ("views", "浏览"),
    "event_click": ("clicks", "点击"),
    "event_favourite": ("favourites", "收藏"),
    "event_cart": ("carts", "加购"),
    "event_purchase": ("purchases", "购买"),
    "event_search": ("searches", "搜索"),
    "event_comment": ("comments", "评论"),
    "event_impression": ("ads seen", "看到的广告"),
    # requests
    "requests": ("My requests", "我的请求"),
    "requests_lead": (
        "What the law lets you ask of the service. This device signs the request; no other proof of who you are is needed.",
        "法律赋予您向服务方提出的请求。由本设备签名，无需其他身份证明。",
    ),
    "requests_none": ("You have asked for nothing yet.", "您还没有提出过请求。"),
    "request": ("Request", "请求"),
    "status": ("Status", "状态"),
    "due": ("Due", "期限"),
    "due_in": ("in {days} days ({law})", "{days} 天内（{law}）"),
    "done": ("done {time}", "已于 {time} 完成"),
    "acknowledged": ("signed acknowledgement kept", "已保存签名回执"),
    "ask": ("Ask now", "提出请求"),
    "package_get": ("Get it: reticent device package {id} FILE.zip", "获取：reticent device package {id} FILE.zip"),
    "confirm_erasure": (
        "Yes, delete everything about me, here and at the service",
        "是的，删除本设备和服务方上关于我的一切",
    ),
    "erasure_hint": (
        "What was contributed to models cannot be taken out of them: the ε above bounds what it can reveal. The budget is not refilled.",
        "已贡献给模型的内容无法取出：上方的 ε 限定了它最多能泄露的程度。隐私预算不会因此恢复。",
    ),
    "request_access": ("See what the service has about me", "查看服务方持有的我的信息"),
    "request_portability": ("Take it with me", "带走我的数据"),
    "request_erasure": ("Delete everything", "删除一切"),
    "request_rectification": ("Correct my age band", "更正年龄段"),
    "request_restriction": ("Restrict what is done with it", "限制处理"),
    "request_objection": ("Object to personalised treatment", "反对个性化处理"),
    "status_pending": ("pending", "待处理"),
    "status_in_progress": ("in progress", "处理中"),
    "status_completed": ("completed", "已完成"),
    "status_cancelled": ("cancelled", "已取消"),
    "status_denied": ("denied", "已拒绝"),
    # what the forms answer
    "said_withdrawn": ("Withdrawn. It holds on this device and at the service.", "已撤回。在本设备和服务方均已生效。"),
    "said_withdrawn_here": (
        "Withdrawn. It holds on this device now; the service could not be told and will be, when you try again.",
        "已撤回，本设备立即生效；暂时无法通知服务方，请稍后重试。",
    ),
    "said_asked": ("The service has received your request and signed for it.", "服务方已收到您的请求并签署回执。"),
    "said_erased": (
        "Everything was deleted, here and at the service. The ledger keeps what was spent, so that starting again refills nothing.",
        "本设备和服务方上的内容已全部删除。账本保留已用额度，因此重新开始不会恢复预算。",
    ),
    "said_failed": ("That did not work: {error}", "操作未成功：{error}"),
    "said_confirm": ("Nothing was deleted: the box was not ticked.", "未删除任何内容：没有勾选确认框。"),
    "forbidden": (
        "This page opens with the link that the command printed, once.",
        "请使用命令打印出的一次性链接打开本页。",
    ),
    "footer": (
        "Made on this device by Reticent. Keep printed copies as carefully as the device itself.",
        "由 Reticent 在本设备上生成。请像保管设备一样保管副本。",
    ),
    # kinds of messages
    "message_training_contribution": ("a model update, clipped and with noise", "模型更新（限幅并加噪）"),
    "message_secagg_advert": ("joining a secure sum: fresh random keys", "加入安全求和：新的随机密钥"),
    "message_secagg_shares": ("secure sum: encrypted shares of random secrets", "安全求和：随机秘密的加密分片"),
    "message_masked_update": ("a model update, with noise, masked", "模型更新（加噪并掩码）"),
    "message_masked_measurement": ("counts, with noise, masked", "计数（加噪并掩码）"),
    "message_secagg_confirmation": ("secure sum: which devices are in it", "安全求和：确认参与设备"),
    "message_secagg_reveal": ("secure sum: shares that unmask the sum alone", "安全求和：仅能揭示总和的分片"),
    "message_subject_enrolment": ("asking for a random handle", "申请随机代号"),
    "message_consent_change": ("your decision about purposes", "您对用途的决定"),
    "message_consent_withdrawal": ("your withdrawal", "您的撤回"),
    "message_follow_up_report": ("confirming an ad chosen by the page", "确认按页面选出的广告"),
    "message_private_pick": ("a private pick from a public list", "从公开列表中作出的私密选择"),
    "message_pick_stop": ("ending the use of private picks", "停用私密选择"),
    "message_document_request": ("fetching a public document", "获取公开文件"),
    "message_subject_request": ("a request about your rights", "行使您权利的请求"),
    "message_subject_read": ("asking how you stand, or fetching your package", "查询您的状态或领取数据包"),
    "message_subject_cancellation": ("taking a request back", "撤销请求"),
    # reasons
    "reason_unknown-subject": (
        "This device is not enrolled, so nothing personal may be used.",
        "本设备尚未登记，因此不得使用任何个人信息。",
    ),
    "reason_malformed": ("The request could not be understood.", "无法理解该请求。"),
    "reason_consent-required": ("You have not agreed to this.", "您尚未同意。"),
    "reason_consent-refused": ("You refused this.", "您已拒绝。"),
    "reason_consent-withdrawn": ("You withdrew this.", "您已撤回。"),
    "reason_consent-invalidated": ("That consent was not a valid one.", "该同意不具有效力。"),
    "reason_objected": ("You objected to personalised treatment.", "您已反对个性化处理。"),
    "reason_processing-restricted": ("Processing is restricted, as you asked.", "已按您的要求限制处理。"),
    "reason_consent-expired": ("Your consent has expired.", "您的同意已过期。"),
    "reason_notice-superseded": ("The privacy notice has changed since you agreed.", "自您同意后，隐私声明已更改。"),
    "reason_prerequisite-missing": (
        "It needs another purpose that you have not agreed to.",
        "它依赖的另一项用途您尚未同意。",
    ),
    "reason_minor-protected": (
        "Only people who declared to be adults get personalised treatment.",
        "仅对声明为成年人的人提供个性化。",
    ),
    "reason_signal-opt-out": ("An opt-out signal was received.", "收到了拒绝信号。"),
    "reason_kill-switch": ("A privacy officer has stopped this purpose.", "隐私负责人已停止该用途。"),
    "reason_budget-exhausted": ("The privacy budget does not allow another release.", "隐私预算不允许再次发布。"),
    "reason_message-not-declared": ("This kind of message is not declared.", "该类消息未被声明。"),
    "reason_form-not-as-declared": ("The message had not its declared form.", "消息与声明的形式不符。"),
    "reason_too-often": ("As many as are allowed in a day have left.", "已达到每日上限。"),
    "reason_pick-outdated": (
        "That list of candidates is not the one in force.",
        "该候选列表不是当前生效的列表。",
    ),
    "reason_pick-redrawn": (
        "An answer was given before; a second one would say more about you.",
        "此前已给出一次答案；再次作答会透露更多关于您的信息。",
    ),
    "reason_pick-stopped": ("You have stopped private picks.", "您已停用私密选择。"),
    "reason_not-verified": ("A signature did not verify.", "签名未通过验证。"),
    "reason_late": (
        "There was no answer in the time that the app gave.",
        "未能在应用给定的时间内答复。",
    ),
    "reason_unavailable": (
        "What a decision needs could not be read, which means no.",
        "无法读取所需状态，因此视为不允许。",
    ),
}


class Words:
    """The page's words in one language."""

    def __init__(self, locale: Locale) -> None:
        """Speak ``locale``."""
        self.locale: Final = locale
        self._place: Final = LOCALES.index(locale)

    def __call__(self, key: str, /, **values: object) -> str:
        """The text filed under ``key``, filled in."""
        return _TEXTS[key][self._place].format(**values)

    def of(self, family: str, name: str) -> str:
        """The text of one name of a closed list; a name that came later is shown as it is."""
        found = _TEXTS.get(f"{family}_{name}")
        return name if found is None else found[self._place]
