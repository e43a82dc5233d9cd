"""Word lists that the features count: what a question is about, and what it asks for.

English words are looked up whole and in lower case; Chinese ones are found anywhere in the text,
for it has no spaces. The lists are short on purpose: they carry what a subject has in common with
subjects nobody has labelled, and the trees weigh them.
"""

from __future__ import annotations

WORDS: dict[str, str] = {
    "negation": "not no never none neither nor cannot except incorrect false without n't "
    "untrue don't doesn't isn't aren't wasn't can't won't didn't least wrong unlikely "
    "exclude excluding 不 没 非 无 错误 除了",
    "superlative": "best most main primary primarily greatest largest highest lowest "
    "smallest first likely mainly chiefly closest correct appropriate 最 主要 正确",
    "which": "which 哪 哪个 下列 以下",
    "what": "what 什么",
    "who": "who whom whose 谁",
    "when": "when year century date 何时 年",
    "where": "where country city located capital 哪里 在哪 首都",
    "why": "why because reason cause causes due 为什么 原因",
    "how": "how 怎么 如何 怎样",
    "many": "many much number count 多少 几",
    "following": "following statements statement these above below passage refers information",
    "condition": "if suppose assume assuming given let unless whether provided 如果 假设 设 若",
    "arithmetic": "each total every per times twice half double triple thrice remaining "
    "left sum altogether combined split divided equally rest third quarter fewer extra "
    "spend spent earn earns earned buys bought sells sold pay paid costs cost price gave "
    "gives eat ate 共 每 倍 剩 一半 平均 买 卖",
    "more_less": "more less than fewer greater smaller larger higher lower increase "
    "increased decrease decreased least 多 少 大于 小于",
    "time_unit": "second seconds minute minutes hour hours day days week weeks month "
    "months year years daily weekly 分钟 小时 天 周 月",
    "money": "dollar dollars cent cents usd euro euros pounds yuan money profit revenue "
    "interest salary wage 元 钱 利润",
    "unit": "m cm mm km kg g mg mol ml l liter liters meters metres meter inches feet foot "
    "miles mph volts volt amperes ohm ohms watts joule joules j newton newtons n hz atm "
    "degrees celsius kelvin k c f ft lb lbs psi btu nm ev kj pa s ms mm^2 acre gallon "
    "gallons 米 千克 公里",
    "percent": "percent percentage ratio rate average mean median fraction proportion 百分 比例",
    "calculate": "find calculate compute determine evaluate solve simplify estimate "
    "express approximate value answer result 求 计算 解",
    "algebra": "function polynomial equation equations variable matrix vector root roots "
    "factor integer integers real rational prime divisible remainder quadratic linear "
    "inequality sequence series term sum product digit digits modulo solutions 方程 函数 "
    "整数 质数",
    "geometry": "triangle circle square rectangle area perimeter angle radius diameter "
    "volume side length cube sphere plane parallel perpendicular coordinates graph slope "
    "polygon 三角形 圆 面积",
    "abstract": "group ring field subgroup homomorphism isomorphic isomorphism abelian "
    "cyclic permutation topology compact continuous bijective kernel ideal finite infinite "
    "dimension eigenvalue basis subspace metric converges theorem proof prove proposition "
    "logic predicate valid argument premise conclusion implies 证明 定理 命题",
    "calculus": "derivative integral limit differential differentiable gradient maximum "
    "minimum dx curve bounded 导数 积分 极限",
    "statistics": "probability random sample population variance deviation distribution "
    "normal hypothesis test regression correlation confidence significance mean expected "
    "dice coin independent estimator 概率 方差",
    "physics": "force mass velocity speed acceleration energy momentum gravity electric "
    "magnetic charge current voltage resistance circuit wave wavelength frequency light "
    "photon particle electron pressure temperature heat gas friction pendulum spring "
    "quantum relativity lens mirror motion kinetic 力 速度 能量 电",
    "engineering": "circuit transistor motor voltage load beam stress shaft pump turbine "
    "flow fluid steam reynolds boiler tank pipe signal filter control machine armature "
    "winding transformer alternator diode bandwidth antenna 电路",
    "chemistry": "atom atoms molecule molecules ion ions acid base reaction solution "
    "compound element oxygen hydrogen carbon nitrogen bond bonds molar oxidation "
    "equilibrium ph metal salt orbital spectrum isotope catalyst enthalpy entropy chemical "
    "electrons proton 化学 反应 元素",
    "biology": "cell cells gene genes dna rna protein proteins species organism organisms "
    "plant plants animal animals enzyme membrane evolution population selection chromosome "
    "mutation bacteria virus blood tissue hormone nucleus allele photosynthesis 细胞 基因 "
    "生物",
    "medicine": "patient patients disease diseases treatment symptoms diagnosis clinical "
    "pain cancer drug therapy infection syndrome nerve artery muscle bone liver kidney "
    "heart brain surgery vaccine dose woman man year-old examination history fever chronic "
    "acute doctor 患者 病 治疗 症状",
    "nutrition": "food diet vitamin vitamins fat fats dietary intake obesity protein "
    "carbohydrate glucose cholesterol calories milk sugar eating meal 食物",
    "psychology": "behavior behaviour psychologist psychology children child personality "
    "anxiety depression memory learning cognitive emotional therapist client self "
    "attitudes perception motivation stress development adolescents stimulus conditioning "
    "心理",
    "social": "social society culture cultural family gender sexual women men marriage age "
    "aging elderly older adults group groups community class race identity people 社会",
    "law": "court law defendant plaintiff contract constitutional statute property liable "
    "liability crime murder evidence jury trial amendment rights convicted charged action "
    "suit tort sued testimony landlord owner buyer seller deed judge attorney police "
    "prosecution legal felony negligence 法 法院",
    "politics": "president congress government party election vote policy state states war "
    "treaty democracy democratic republican federal security nuclear military "
    "international power foreign senate political nations union 政府 政治",
    "history": "century empire king war revolution colonial ancient civilization emperor "
    "dynasty roman greek european american british french soviet slavery industrial "
    "medieval site archaeological bc ce ago culture 历史 朝代",
    "economics": "price demand supply market inflation unemployment gdp monetary fiscal "
    "interest money tax consumers marginal firm firms monopoly aggregate output currency "
    "trade goods equilibrium elasticity curve bank exports investment 经济 市场",
    "business": "company marketing product products customers customer management business "
    "organization brand strategy manager employees stock financial accounting audit income "
    "asset assets shares tax sales corporation cash bonds auditor 公司",
    "philosophy": "moral ethics ethical philosophy argues according kant plato "
    "utilitarianism virtue theory knowledge belief truth god free will duty right wrong "
    "human nature fallacy morally claim argument mill hume aquinas singer 道德 哲学",
    "religion": "religion religious god church christian islam muslim buddhist buddhism "
    "hindu jewish bible jesus prophet temple sacred ritual worship jain sikh dao confucian "
    "宗教 佛",
    "geography": "country region climate urban population migration city land map area "
    "ocean river rural agriculture global world africa asia europe latin countries 地理 "
    "国家",
    "earth": "earth sun moon planet planets star stars solar galaxy telescope orbit "
    "atmosphere rock rocks water ice temperature mars jupiter venus light-years weather "
    "mineral fossil soil 地球 太阳",
    "computing": "program algorithm computer data memory processor code software network "
    "binary array list string loop class function python java input output bit bits byte "
    "graph tree node sort search cache attack server encryption protocol operating "
    "internet 程序 算法 代码",
    "learning": "training learning model classifier neural network regression data "
    "features kernel bayesian overfitting decision svm clustering supervised gradient "
    "layer",
    "code_task": "write function return returns given implement list string array tuple "
    "elements python program check whether >>> def 编写",
    "instruct": "write explain describe compare summarize translate list give create "
    "generate suggest make help show provide please tell rewrite draft 写 解释 翻译 总结 "
    "请",
    "chat": "hi hello hey thanks thank please joke story poem love you your 你好 谢谢 你",
    "i": "i me my mine myself 我",
    "he": "he him his himself she her hers herself 他 她",
    "they": "they them their we us our 他们 我们",
    "deontic": "should must may might could would ought shall can required allowed able 应该 必须",
    "hedge": "generally usually often typically probably sometimes approximately about "
    "nearly roughly tend tends 大约 通常",
    "contrast": "but however although though while whereas despite instead unlike yet 但 虽然",
    "result": "therefore thus hence so consequently then since 因此 所以 然后",
    "and_or": "and or both either 和 或",
    "article": "the a an of in on at to for with by from as",
    "is": "is are was were be been has have had do does did",
    "quantity": "all some any only always every several few most 所有 一些 只",
    "ordinal": "first second third next last before after until finally 第一 第二 最后",
    "kinds": "type types kind kinds example examples form forms process term terms theory "
    "method known called refers defined definition referred 称为 定义",
    "said": "said says argued believed claimed wrote stated told asked 说",
    "purpose": "purpose role effect effects result results impact important importance "
    "advantage increase reduce prevent likely cause 作用 影响",
    "entertainment": "film movie song singer actor band album book novel author played team "
    "won game sport series tv show character episode award football 电影 歌",
    "everyday": "house car school friends friend mother father kids dog cat store room book "
    "books apples cookies bought party class students teacher 学校 朋友",
}
"""The lists by name, in the order of their features."""
