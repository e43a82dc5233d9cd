"""What diseases, medicines and treatments are called in English and Chinese."""

from __future__ import annotations

import re

CONDITION = (
    r"(?:diabet(?:es|ic)|cancer|tumou?r|leuk[ae]*mia|lymphoma|melanoma|carcinoma"
    r"|depress(?:ion|ed)|anxiety(?: disorder)?|bipolar(?: disorder)?|schizophreni[ac]|autis(?:m"
    r"|tic)|adhd|ptsd|ocd"
    r"|anorexi[ac]|bulimi[ac]|insomnia|dementia|alzheimer(?:'s)?(?: disease)?|parkinson(?:'s)?"
    r"(?: disease)?|epilep(?:sy|tic)|multiple sclerosis|stroke|heart (?:attack|failure|disease)"
    r"|arrhythmia|hypertension|high blood pressure|asthma(?:tic)?|copd|pneumonia|tuberculosis"
    r"|hepatitis(?: [a-e])?|cirrhosis|kidney (?:failure|disease|stones)|hiv|aids|syphilis"
    r"|gonorrh?ea|chlamydia|herpes|covid(?:-19)?|arthritis|lupus|crohn(?:'s)?(?: disease)?"
    r"|endometriosis|pcos"
    r"|infertil(?:e|ity)|miscarriage|an[ae]+mia|migraines?|glaucoma|psoriasis|eczema|osteoporosis"
    r"|fibromyalgia|celiac(?: disease)?|sclerosis|alcoholi(?:sm|c)|addiction|an? ulcer|hernia"
    r"|gout|sepsis|suicidal(?: thoughts)?|(?:atrial )?fibrillation|angina|hypothyroidism"
    r"|[a-z]{4,16}itis)"
)
MEDICINE = (
    r"(?:[a-z]{2,12}(?:cillin|mycin|statin|prazole|sartan|dipine|olol|pril|zepam|zolam|oxetine"
    r"|pramine|triptan|gliptin|gliflozin|glutide|floxacin|cycline|vir|mab|tinib|codone|morphone"
    r"|barbital"
    r"|profen|azine|idone|apine|parin)|insulin|metformin|warfarin|lithium|aspirin|prednisone"
    r"|methotrexate|sertraline|citalopram|escitalopram|bupropion|venlafaxine|adderall|ritalin"
    r"|methadone|naloxone|levothyroxine|gabapentin|tramadol|fentanyl|chemotherapy|antidepressants?"
    r"|antipsychotics?|antiretrovirals?|birth control|viagra|xanax|prozac|zoloft|lexapro|ozempic)"
)
TREATMENT = (
    r"(?:(?!the |scene)[a-z-]{2,15} ){0,3}(?:surgery|transplant|bypass|chemotherapy|chemo"
    r"|radiotherapy|dialysis|biopsy|abortion|mastectomy|hysterectomy|vasectomy|c-section|ivf"
    r"|colonoscopy|rehab"
    r"|amputation|angioplasty|appendectomy|cataract operation)"
)
PERSON = (
    r"(?:i|i'm|i've|my|me|he|he's|she|she's|his|her|we|our|the patient|patient|pt|mother|father|mom"
    r"|mum|dad|wife|husband|son|daughter|brother|sister|boyfriend|girlfriend|grandmother"
    r"|grandfather"
    r"|grandma|grandpa|uncle|aunt|friend|colleague|boss|mr|mrs|ms)"
)

DISEASE_ZH = (
    "(?:糖尿病|高血压|低血压|高血脂|冠心病|心脏病|心梗|心肌梗[死塞]|心衰"
    "|中风|脑梗|脑出血"
    "|癌症?|肿瘤|白血病|淋巴瘤|抑郁症?|焦虑症?|躁郁症|双相(?:情感障碍)?|精神分裂症?|强迫症"
    "|自闭症|失眠症?|多动症"
    "|厌食症|痴呆症?|阿尔茨海默(?:病|症)?|帕金森(?:病|症)?|癫痫|哮喘|肺炎|肺结核|结核病?|乙肝"
    "|丙肝|甲肝|肝炎"
    "|肝硬化|肾衰竭?|尿毒症|肾结石|艾滋病?|梅毒|淋病|疱疹|尖锐湿疣|性病|新冠|甲亢|甲减|痛风"
    "|关节炎|胃炎|胃溃疡"
    "|肠炎|阑尾炎|胆结石|红斑狼疮|不孕症?|不育症?|贫血|偏头痛|青光眼|白内障|湿疹|银屑病|骨质疏松"
    "|前列腺炎|宫颈炎"
    "|综合征|障碍症?|结节|囊肿|骨折)"
)
ILLNESS_ZH = f"(?:[\u4e00-\u9fff]{{0,6}}?{DISEASE_ZH}|[\u4e00-\u9fff]{{1,6}}[病症炎癌瘤])"
MEDICINE_ZH = (
    "(?:[\u4e00-\u9fff]{0,6}(?:霉素|西林|沙星|他汀|洛尔|沙坦|地平|普利|西泮|唑仑|西汀|拉唑|替尼"
    "|单抗|双胍|胰岛素"
    "|激素|阿司匹林|布洛芬|头孢|降压药|降糖药|安眠药|避孕药|抗抑郁药|止痛药|抗生素|中药|胶囊"
    "|颗粒|注射液|口服液"
    "|缓释片))"
)
PERSON_ZH = (
    "(?:我|他|她|本人|患者|病人|妈妈?|爸爸?|母亲|父亲|老婆|妻子|老公|丈夫|儿子|女儿|孩子|爷爷|奶奶"
    "|外公|外婆|姐姐?|妹妹?|哥哥?|弟弟?|朋友|同事|先生|女士)"
)

STEMS_ZH = re.compile(
    "病|症|炎|癌|瘤|药|HIV|血压|血脂|阳性|携带|手术|化疗|放疗|透析|移植|搭桥|人流|试管|治疗"
    "|怀孕|流产|堕胎|早产|住院|自杀|自残|素|西林|沙星|他汀|双胍|毫克|mg|胶囊|颗粒|心梗|中风|脑"
    "|肝|肾|骨折|结节"
    "|囊肿|障碍|艾滋|新冠|甲亢|甲减|痛风|贫血|狼疮|癫痫|哮喘|抑郁|焦虑|双相|不孕|不育|疱疹"
    "|阿司匹林|布洛芬|头孢"
    "|单抗|替尼|洛尔|沙坦|地平|普利|唑|西泮|西汀|口服液|缓释片|注射"
)
"""Each begins with a plain character, so that the search passes fast over all others."""
