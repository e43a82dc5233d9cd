"""The words that name values, by the label that they name."""

from __future__ import annotations

from isthmus.privacy.base import Label


def words(text: str) -> frozenset[str]:
    """The words of `text`: a long list reads better as one text."""
    return frozenset(text.split())


OTHER = "OTHER"
"""The label of words that name what concerns nobody: orders, versions, amounts."""

PHONE_NEAR = "PHONE_NEAR"
"""The label of words that name a phone number only right beside it: "office 781 1704"."""

LICENSE_NEAR = "LICENSE_NEAR"
"""The label of words that name a driving licence only right before it: "DL F1234567"."""

LATIN: dict[str, str] = {
    Label.PHONE: "phone telephone tel mobile mob cell cellphone handset landline fax hotline"
    " whatsapp sms call called calling dial dialed dialled ring reach text texted contact caller"
    " voicemail ph facetime viber helpline pager txt phonenumber mobilephone msisdn phoneno telno"
    " my_number his_number her_number their_number new_number home_number work_number direct_line"
    " direct_number messages_to message_to message_at office_phone home_phone work_phone telefon"
    " telefono tfno hmu handynummer handy",
    PHONE_NEAR: "office home work desk",
    Label.ID_CN: "id idcard idno sfz sfzh shenfenzheng certno resident_identity",
    Label.BANK_CARD: "card cards credit_card debit_card bank_card visa mastercard master_card amex"
    " american_express discover unionpay union_pay maestro diners jcb cc ccn cardno cardnum"
    " cardnumber bankcard creditcard pan_number exp expiry expires cvv cvc valid_thru",
    Label.IBAN: "iban international_bank_account",
    Label.US_SSN: "ssn social_security social taxpayer soc_sec ss_number",
    Label.PASSPORT: "passport passports passportno passportnumber travel_document reisepass"
    " reisepassnummer passnummer pasaporte passeport passaporto paspoort paszport pass_number"
    " ppt_no ppt_number",
    Label.PLATE: "plate plates license_plate licence_plate number_plate registration_plate"
    " registration reg vrm rego tag_number license_tag platenumber registration_mark"
    " kennzeichen matrícula immatriculation targa",
    LICENSE_NEAR: "dl license licence",
    Label.DRIVER_LICENSE: "driver_license drivers_license driver_licence drivers_licence"
    " driving_licence driving_license dln drivers_permit drivers_lic driver_lic operators_license"
    " license_number licence_number license_no licence_no license_id driver_s_license my_license"
    " my_licence his_license her_license their_license driverlicense driverslicense führerschein"
    " führerscheinnummer permis_de_conduire licencia_de_conducir carnet_de_conducir rijbewijs"
    " körkort kørekort førerkort carta_de_conduçao patente_di_guida",
    Label.NATIONAL_ID: "id_card id_number id_no identity identity_card identity_number"
    " identification identification_number identification_card resident_id citizen_id"
    " national_id national_identity national_insurance national_identification"
    " nino ni_number nhs hkid hong_kong_id macau_id taiwan_id taiwanese_id aadhaar aadhar uidai pan"
    " pan_card dni nie nif codice_fiscale fiscal_code nir insee steuer_id steueridnr steuerid"
    " steueridentifikationsnummer tax_id tax_identification tin itin pesel cpf rrn"
    " resident_registration nric fin curp rut bsn personnummer cpr hetu ahv avs tfn tax_file"
    " medicare medicare_number sin social_insurance military_id personal_id personal_code"
    " personal_identification citizenship resident_permit residence_permit voter_id alien_number"
    " utr green_card tckn nin bvn sa_id mykad identity_document nss fødselsnummer jmbg cnp egn"
    " num_ss seguridad_social nik cnic zehut ppsn pps pps_number oib rodné_číslo rodne_cislo"
    " sécurité_sociale"
    " snils inn_number kimlik burgerservicenummer emirates_id steuernummer idnr cedula cédula"
    " personalausweis ausweisnummer documento_nacional carte_d_identité",
    Label.IP: "ip ipv4 ipv6 ip_address host server gateway dns subnet",
    Label.MAC: "mac mac_address bssid ethernet hardware_address physical_address hwaddr",
    Label.IMEI: "imei imeisv meid device_id",
    Label.ACCOUNT: "account accounts acct acc account_number bank_account checking_account"
    " savings_account accountno accountnumber routing routing_number aba sort_code sortcode rtn bsb"
    " a/c bank_acct qq wechat weixin wx vx customer_id customer_number member_id"
    " membership membership_number user_id uid alipay transit transit_number iin konto kontonummer"
    " mrn medical_record medical_record_number patient_id patient_number patient_no policy_number"
    " policy_no frequent_flyer frequent_flyer_number loyalty_number student_id student_number"
    " employee_id employee_number subscriber_id insurance_id",
    OTHER: "order orders invoice isbn issn doi tracking version versions build release ticket"
    " serial sku part model amount total price cost paid usd eur population page pages chapter"
    " section figure table case commit revision bug issue po reference ref receipt flight error"
    " code port pid shipment parcel catalogue catalog item product batch lot timestamp epoch hash"
    " checksum pmid arxiv patent transaction trx txn request trace session job run size bytes"
    " length count order_id request_id trace_id session_id job_id transaction_id product_id"
    " process_id item_id message_id ean upc gtin barcode pi decimal prime zip zip_code"
    " postal_code postcode lottery lotto lottery_number winning_number",
}
"""Lower-case words; `_` stands between the words of a phrase. Apostrophes are left out."""

CHINESE: dict[str, str] = {
    Label.PHONE: "电话 手机 座机 固话 传真 热线 致电 拨打 来电 联系方式 联系我 联系人 打给 打我"
    " 短信 客服 手提 联络 電話 手機 呼叫 机主 联系 手机号 给我打 打他 打她 呼我",
    Label.ID_CN: "身份证 身份號 身份号 身份証 身份證 身分证 身分證 证件 證件 证号 居民证 公民身份"
    " 实名 身份信息 二代证 身份码",
    Label.BANK_CARD: "卡号 卡號 银行卡 銀行卡 信用卡 储蓄卡 借记卡 银联 打钱 打款 汇款 转账 转帐"
    " 收款 付款 工资卡 张卡 張卡 个卡 行卡 刷卡 用卡 绑卡 社保卡 我的卡 的卡 这卡 工行 农行 建行"
    " 中行 交行 招行 工商银行 农业银行 建设银行 存款 还款 打到",
    Label.US_SSN: "社会安全 社安 社會安全",
    Label.PASSPORT: "护照 護照 旅行证 旅行证件 通行证 通行證 回乡证 台胞证 签证",
    Label.PLATE: "车牌 車牌 牌照 车号 牌号 号牌 车辆",
    Label.DRIVER_LICENSE: "驾驶证 驾照 駕照 駕駛執照 駕駛證 驾驶执照 驾证 档案编号",
    Label.NATIONAL_ID: "社保号 社会保障号 社会保障 社保账号 社保编号 医保号 医保卡 军官证 士兵证"
    " 军人证 警官证 居留证 居住证 永居证 军证 文职证 税号 纳税人识别号 健康卡 台湾身份证"
    " 香港身份证 澳门身份证 香港身份證 臺灣身分證 台灣身分證 永久居留 公积金 医保 社保"
    " 医保卡号 健康卡号 社保卡号",
    Label.IP: "地址 服务器 主机 网关 来源",
    Label.MAC: "网卡 物理地址 硬件地址 mac地址",
    Label.IMEI: "串号 设备号 识别码 机身码",
    Label.ACCOUNT: "账号 账户 帐号 帐户 賬號 賬戶 帳號 帳戶 扣扣 企鹅号 微信 威信 薇信 用户名"
    " 支付宝 户号 会员号 客户号 存折 用户编号 抖音号 快手号 小红书号 微博 微信号"
    " 学号 住院号 病历号 病案号 门诊号 就诊卡号 保单号 工号 客户编号 会员编号",
    OTHER: "订单 訂單 单号 编号 流水 运单 快递 物流 版本 型号 序列 金额 价格 总计 合计 发票 邮编"
    " 条码 合同号 批次 文号 案号 信用代码 书号 国标 股票 基金 工单 交易号 时间戳 数据 参数 人口"
    " 销量 圆周率 公里 代码",
}

NAMING = frozenset(word for phrases in LATIN.values() for word in phrases.split())
"""Every word and phrase of `LATIN`: a name of values, and so no name of people or firms."""
