"""Each label's values where people write them, marked «so», and what only looks like one."""

from __future__ import annotations

import pytest

from isthmus.privacy.detectors import STRUCTURED
from isthmus.privacy.scan import scan

FOUND = {
    "PHONE": """
        分机：«0571-87654321-8012»
        Call me on «(555) 010-4477» after five
        my cell is «+1 415 555 2671», the office «415-555-2672 ext. 12»
        ring «020 7946 0958» or «07700 900123» or «+44 (0)20 7946 0958»
        Mobile: «0412 345 678»
        Fax: «0490 39 07 81»
        781 1704 is a number, but «781 1704» office is one to dial
        tel:«+8613800138000»
        You can call «73 448 266» or «73 448 267»
        dial «five five five, oh one two three, four five six seven»
        my number is «one three eight double zero one three eight triple zero»
        我的手机«13812345678»请回电
        张三«13812345678»，一会儿联系
        打«13812345678»一下
        电话：«１３８－１２３４－５６７８»
        手机«一三八零零一三八零零零»
        加微信«①③⑧⓪⓪①③⑧⓪⓪⓪»
        联系人王女士（«138 1234 5678»）
        «(+86)138-0013-8000»，座机«0755-8888 9999转808»
        客服热线«400-820-8820»
        姓名/«13313735379»/男
        «0086-10-87654321»
        7,«13812345678»,Oslo
        dial «011 44 20 7464 9366» from the US
        1,«212-555-0187»,NY
        text «512/482-9862» or ring
        Telefon «089/9594959», Tel. «030/1234 567»
    """,
    "EMAIL": """
        Mail «jane.doe+news@mail.example.co.uk», please
        write to '«a@b.org»'
        to=«a.b@example.org»;
        «bob (at) example (dot) com»
        ask «bob at example dot com» for it
        «bob[at]mail[dot]example[dot]org»
        邮箱是«zhang_san@qq.com»谢谢
        发到«zhangsan艾特qq点com»
        全角«ａｂ＠ｃｄ．ｃｏｍ»也算
        «tеst@ехаmple.com» with letters that only look Latin
    """,
    "ID_CN": """
        1,«11010519491231002X»,男
        身份证号：«110105.19491231.002X»
        证件 «110105_19491231_002X» 这个身份证
        身份证«11010519491231002X»。
        «11010519491231002x»号
        他叫李雷«110105 19491231 002X»
        身份证号：«110105194912310021»，校验位不对也是
        公民身份号码«999999199902301234»
        身份证 «1 1 0 1 0 5 1 9 4 9 1 2 3 1 0 0 2 X»
        办理业务请报身份证 «621000194905159343» 谢谢
        my Chinese ID is «110105194912310021»
        ID: «110105-19491231-002X»
        旧身份证号«110105491231002»
    """,
    "BANK_CARD": """
        银行账户：«6228952251348917978»
        card «4111 1111 1111 1111».
        amex «378282246310005»
        «4111-1111-1111-1111» exp 12/27
        please charge «5500005555555559»
        卡号«6212 2622 0000 0000 004»
        把钱打到«6228485715272643»
        建行卡 «6217 0012 3456 7890»
        工资卡«6202 0474 0505 7129 782»开户行
        账号«6222021001116245702»
    """,
    "IBAN": """
        IBAN: «PL05 7273 7289 0257 9747 5661 2500», its checksum mistyped
        IBAN «GB59IFUE40226315499137»
        my iban is «gb29nwbk60161331926819»
        wire it to «DE89 3704 0044 0532 0130 00» today
        IBAN «DE89370400440532013001», mistyped
        国际账户IBAN：«FR1420041010050500013M02606»
    """,
    "US_SSN": """
        My SSN: «514-69-0360»
        ssn is «514690360»
        her social security number («514 69 0360») was on it
        美国社保(SSN)«514-69-0360»
    """,
    "PASSPORT": """
        PPT NO «HR6778842»
        passport no. «533401372»
        Reisepass «C4VJ2K8H1»
        passeport n° «12AB34567»
        港澳通行证号码«C12345678»
        passport number «C12345678»
        passport no. «123456789»
        my passport («AB1234567») expires
        护照号«E12345678»
        我的护照«EA6719050»快过期了
        港澳通行证«C12345678»
    """,
    "PLATE": """
        Kennzeichen «B-DT 352»
        我的车«WJ京12345»被刮了
        license plate «7ABC123»
        his number plate is «AB12 CDE»
        the plate read «ABC-1234»
        车牌«京A12345»违停
        前面那辆«粤B·12345»别了我
        «沪AD12345»是新能源
        «粤Z1234港»和«京A1234学»
        挡路了 «鄂A8K2P5» 快挪车
    """,
    "DRIVER_LICENSE": """
        驾驶证号«430112345678»
        驾照号：«D1234567»
        driver’s license no. «12345678»
        DL# «WDLABCD456DG»
        Führerschein «B072RRE2I55»
        my driver's license number is «2270-66-1551»
        My driver's license number is «F162823540116»
        driving licence «MORGA657054SM9IJ»
        DL: «F1234567» (CA)
        驾驶证档案编号«440106123456»
        驾照号«D12345678»
    """,
    "NATIONAL_ID": """
        社保卡号«710670477»
        Emirates ID: «784-1990-1234567-1»
        CNIC «42101-1234567-1»
        СНИЛС «112-233-445 95»
        my OIB is «69435151530»
        rodné číslo: «7801233540»
        医保卡号«A12345678»
        NINO «AB 12 34 56 C»
        my NI number is «QQ123456C»
        NHS number «943 476 5919»
        Aadhaar «2234 5678 9012»
        PAN «ABCPE1234F»
        DNI «12345678Z» y NIE «X1234567L»
        codice fiscale «RSSMRA85M01H501Z»
        numéro NIR «1 85 05 78 006 084 36»
        Steuer-ID «12345678911»
        PESEL «44051401359»
        CPF «123.456.789-09»
        RRN «900101-1234567»
        NRIC «S1234567D»
        ITIN «912-70-1234»
        香港身份证«K123456(7)»
        HKID «A123456(3)»
        澳门身份证«1234567(8)»
        台灣身分證«A123456789»
        军官证«南字第2001988号»
        社保号«12345678901»
    """,
    "IP": """
        address «41.173.96.26» blocked
        login from «8.8.8.8» failed
        «2001:db8:85a3::8a2e:370:7334» answered
        服务器地址是«192.168.1.10»:8080
        来自«114.114.114.114»的访问
        地址 «::1» 是本机
    """,
    "MAC": """
        MAC地址：«001A2B3C4D5E»
        device mac: «AA-BB-CC-DD-EE-FF»
        «52:54:00:9d:0e:67» joined
        «001b.4411.3ab7» on port 3
        MAC «001B44113AB7»
        网卡物理地址«00:1B:44:11:3A:B7»
    """,
    "IMEI": """
        IMEI: «490154203237518»
        IMEI «35-209900-176148-1»
        设备IMEI号«490154203237518»
        手机串号«490154203237519»，校验位不对
    """,
    "ACCOUNT": """
        Skype: «live:antje_p7», or Venmo me at «@dana-w91»
        Patient MRN: «40517533», policy number «HX26067802»
        学号«2016440874»，住院号：«17567988»
        a/c «12345678»
        checking acct. «000123456789»
        account number «0123 4567 8901»
        QQ«123456789»
        account number «12345678», routing number «021000021»
        sort code «12-34-56»
        my telegram is «@johndoe»
        username: «jdoe42»
        QQ号«123456789»
        扣扣：«87654321»
        我的微信：«zhangsan_2024»
        加我微信 «zhangsan_88»
        抖音号«lilei520»
    """,
    "ADDRESS": """
        收货地址：«12 Marine Parade, St Kilda VIC 3182»
        "address": "«Unter den Linden 77, 10117 Berlin»"
        it is «Oak Cottage, Church Lane, Little Haywood, Staffordshire ST18 0UF».
        «Plot No. 45, Sector 18, Gurugram, Haryana 122015»
        他家在«龙岗区坂田街道万科城3期12栋A座804»附近
        我住在«绿地世纪城12-2-1803»。
        «延安西路一千号»
        寄到«三里屯SOHO A座2305»
        I live at «742 Evergreen Terrace, Springfield, OR 97403» and love it
        Ship to «1600 Pennsylvania Ave NW, Washington, DC 20500» by Friday
        My address is «123 Main St Apt 4B, New York, NY 10001-1234»
        «Flat 3, 14 High Street, Oxford OX1 4DB»
        «88 Pitt St, Sydney NSW 2000»
        «24 Sussex Drive, Ottawa, ON K1M 1M4»
        «P.O. Box 1234, Boise, ID 83701»
        «Bahnhofstrasse 12, 8001 Zürich»
        «12 rue de la Paix, 75002 Paris»
        he moved to «12 oak street» last year
        住在«上海浦东新区张江高科技园区碧波路690号»
        快递寄到«广东省深圳市南山区高新南七道12号惠恒大楼3层»，谢谢
        家住«望京西园四区410楼2单元501室»
        «四川省绵阳市三台县芦溪镇五里村3组»
        外卖送到«鼓楼深南大道33号» 快点
        «上海市徐汇区漕溪北路1200弄3号楼502室»
        我现在搬到«杭州西湖区文三路478号华星时代广场A座902»了
        «台北市信义区信义路五段7号»
    """,
}

LEFT_ALONE = {
    "PHONE": """
        It happened on 2024-11-21 at 10:30:45, not 21/11/2023
        call me on 2024-11-21
        20241121 and 2024.11.21 and 2023-2024
        Compute 13812345678 * 3 and 12345678 + 87654321
        It costs $1,299.00, or ¥15000000000, or 18000000000元
        the integers 7, 42, 1000000 and 123456789012
        1700000000 1700000000000
        the part 02110-1301
        call it before 06/2024 1200, at 089/9594959 steps
        call function f(100000, 2000000)
        it was 1,234,567 and 12,345,678 then 3,141 and 1,212
        Lottery numbers: 04 11 23 38 42
        订单号13812345678已发货
        开奖号码：01 05 12 23 28 33
        展览接待12345678人次
        手机号码一般是11位
    """,
    "EMAIL": """
        pip install package@1.2.3 and @decorator
        git clone git@github.com:isthmus/isthmus.git
        logo@2x.png
        user..name@example.com
        meet at the dot on the map
        每点3元，@所有人
    """,
    "ID_CN": """
        110101199001324610
        订单号123456789012345678
        统一社会信用代码91110108MA01YBNX62
        交易流水号：20241121153000123456789
        身份证号码是18位
    """,
    "BANK_CARD": """
        EAN 4011144057950
        4111 1111 1111 1112
        1234567890123456
        2021 2022 2023 2024
        ISBN 978-3-16-148410-0
        银行卡有几位数字？
        商品条码6901234567892
    """,
    "IBAN": """
        at 77 massachusettsave, as one mistypes it
        DE00370400440532013000
        ZZ89370400440532013000
        DE8937
    """,
    "US_SSN": """
        000-12-3456
        SSN 666-45-6789
        12-345-6789
        part 123-45-67890
    """,
    "PASSPORT": """
        I need my passport to be ready by then
        passport control is at gate 12
        护照办理需要10个工作日
    """,
    "PLATE": """
        license plate recognition with YOLOv8
        half a dozen plates sold at $6000 each
        新A股上市首日涨幅44%，京B股下跌
        云SERVER很好用
    """,
    "DRIVER_LICENSE": """
        License: GPL-3.0
        Copyright: 2008-2010 Jane Roe
        驾驶证考试要考4个科目
    """,
    "NATIONAL_ID": """
        the Civil Rights Act of 1964
        case ID of 1234
        合同编号：HT-2024-0015
        他背了三字第一句
    """,
    "IP": """
        Python 3.11.4, build 10.0.19045.3693
        version 1.2.3.4, Git 1.8.1.5, section 8.2.4.44
        8080, 127.0.0.1 and 0xDEADBEEF
        a[1::2] and std::vector and 10:30:45
        1:8:28:70:56:28:8:1
        版本2.1.0.7修复了漏洞
    """,
    "MAC": """
        AA:BB:CC:DD:EE
        550e8400-e29b-41d4-a716-446655440000
        1234.5678.9012
    """,
    "IMEI": """
        pi is 3.14159265358979323846
        a count of 490154203237519
    """,
    "ACCOUNT": """
        QQ:1234
        微信号123abc
        微信号abcde
        用户名不能超过20个字符
        twitter users and their accounts
        user_name = username
        trained to handle low-visibility situations
    """,
    "ADDRESS": """
        there are 3 ways to drive 2 cars
        we drove 12 miles down the road and took a 5 minute drive
        World War 2, Chapter 5, iPhone 12 Pro, Article 19
        In 2020 Apple Park opened; 12 Angry Men
        out of the corner of his eye, and then
        1991-1996, Thomas G. Lane
        median([3, 1, 2, 4, 5]) of 15, 33, 1422
        他知道3号选手赢了
        我们去医院3楼看病，再去教室里5号桌
        坐地铁3号线到中山路5号线换乘
        我在北京
        四川省成都市武侯区人民法院公开审理了此案
    """,
}


def lines(table: dict[str, str]) -> list[tuple[str, str]]:
    return [
        (label, line.strip()) for label, text in table.items() for line in text.strip().split("\n")
    ]


@pytest.mark.parametrize(("label", "marked"), lines(FOUND))
def test_a_value_is_found_with_its_exact_place(label: str, marked: str) -> None:
    text = marked.replace("«", "").replace("»", "")
    places = []
    while "«" in marked:
        start = marked.index("«")
        marked = marked.replace("«", "", 1)
        end = marked.index("»")
        marked = marked.replace("»", "", 1)
        places.append((start, end))
    spans = [span for span in scan(text, STRUCTURED) if span.label == label]
    assert [text[span.start : span.end] for span in spans] == [text[a:b] for a, b in places]
    assert [(span.start, span.end) for span in spans] == places


@pytest.mark.parametrize(("label", "text"), lines(LEFT_ALONE))
def test_what_only_looks_like_one_is_left_alone(label: str, text: str) -> None:
    assert [text[span.start : span.end] for span in scan(text, STRUCTURED)] == []
