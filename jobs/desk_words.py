"""Teams of the synthetic incident desk and their words: products, hosts, symptoms and logs.

This file is the roster of teams, the vocabulary and the small notation it is written in. It knows
nothing of rows or shares and makes no random numbers; `jobs/desk.py` composes tickets out of it.
Every line was written for this project: products, hosts, codes and people are invented.

Notation, one phrase to a line: `[a|b|]` is a choice (an empty choice is allowed; brackets without
a bar are kept as they stand), `{slot}` is a fact of the ticket, filled by `Slots`.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

Lines = tuple[tuple[str, ...], ...]
"""Phrases, each with the wordings that its choices allow. Pick a phrase first and a wording
second, or phrases with many choices would crowd out the rest."""

Topic = tuple[tuple[str, ...], tuple[str, ...]]
"""One fault as its titles and its symptoms: any wording of the one suits any of the other."""

_CHOICE = re.compile(r"\[([^\[\]]*\|[^\[\]]*)\]")


def expand(text: str) -> Lines:
    """Read a block of phrases, one a line; blank lines and indentation are ignored."""
    return tuple(_wordings(line.strip()) for line in text.splitlines() if line.strip())


def topics(text: str) -> tuple[Topic, ...]:
    """Read a block of topics, each a line with its title and a line of `=> ` and its symptom."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    pairs = zip(lines[::2], lines[1::2], strict=True)
    return tuple((_wordings(title), _wordings(symptom[3:])) for title, symptom in pairs)


def _wordings(line: str) -> tuple[str, ...]:
    pieces = _CHOICE.split(line)
    options = [piece.split("|") if at % 2 else [piece] for at, piece in enumerate(pieces)]
    # An empty choice leaves blanks behind that nobody types: two in a row, one before a full stop.
    # A literal \n stays: it is how a log of several lines is written on one line of this file.
    typed = (re.sub(r" {2,}", " ", "".join(parts)).strip() for parts in product(*options))
    return tuple(re.sub(r" (?=[.,:!?]( |$))", "", text).replace("\\n", "\n") for text in typed)


@dataclass(frozen=True)
class Area:
    """What one kind of team talks about.

    `near` names the areas its tickets get mistaken for; `roles` are the middle parts of its host
    names, `codes` the families of its error codes, `nick` what other people call it.
    """

    name: str
    nick: str
    near: tuple[str, ...]
    things: tuple[str, ...]
    roles: tuple[str, ...]
    codes: tuple[str, ...]
    topics: tuple[Topic, ...]
    details: Lines
    logs: Lines
    asks: Lines


@dataclass(frozen=True)
class Overlap:
    """Symptoms that several areas share: only a product, host or code tells them apart."""

    areas: frozenset[str]
    titles: Lines
    symptoms: Lines


@dataclass(frozen=True)
class Region:
    """Where a team works: the short name in its label, its host prefixes and its towns."""

    name: str
    prefixes: tuple[str, ...]
    sites: tuple[str, ...]


IAM = Area(
    name="Identity & Access",
    nick="access management",
    near=("HR Systems", "Email & Collaboration", "Network Operations", "ERP / SAP Finance"),
    things=("Onedoor SSO", "Passgate", "Keyring MFA", "RoleDesk", "Castellan"),
    roles=("dc", "idp", "ldap"),
    codes=("IDM", "AUTHN"),
    topics=topics("""
        password [reset|expired|change] [|for {user}|please]
        => My password [ran out|expired] [over the weekend|{when}] and the reset [link|page] \
            [loops|goes in circles].
        account [locked|locked out|disabled] [again|{when}|]
        => After [{n}|three|five] wrong attempts {user} is locked, unlocking [lasts one \
            minute|does not hold].
        {thing} [does not accept|rejects] my new password
        => [I set|Set] a new password, {thing} [wants the old one|says unknown], {plat} already \
            [takes|knows] the new one.
        new phone, [MFA|authenticator|token] [gone|not moved over|lost]
        => I got a new mobile and the [code|push] still goes to the old one.
        [remove|revoke] access of {user} to {plat}
        => [Colleague|Contractor] {name} left {dept} but can still open {plat}.
        role missing [after move to {dept}|in {plat}]
        => I moved [to {dept}|inside {dept}] and [lost|no longer have] all my rights[, even the \
            old ones|].
        {thing} role [withdrawn|gone] although approved
        => {thing} says my [role|entitlement] was [withdrawn|removed] although [{name}|my \
            manager] approved it.
        approval for {plat} stuck [{n} days|with manager|]
        => The [approval|request] for {plat} sits in {thing} {when}, nobody gets the [mail|task].
        group membership not replicated to {site}
        => The group for {plat} shows {n} members on {host} and none on {host2}.
        user {user} exists twice [|in directory]
        => There are two entries for {user}, [mail goes to one|the old one is active], rights are \
            on the other.
        [service|technical] account for {plat} [locked|expires {day}]
        => The technical user of the {plat} backup is locked, [every night|daily] at {time}, \
            please unlock it.
        copier login [refused|says account disabled]
        => The printer login asks for the directory password and [the directory refuses it|says \
            account disabled].
        wrong person [sees|can see] {dept} [data|folder]
        => {name} [can see|sees] the salaries folder through a group she was never [put in|added \
            to].
        mailbox ok but user [disabled|missing]
        => The mailbox is there but the person behind it [is disabled|has no account] in the \
            directory.
        [admin|privileged] rights on {host} [refused|expired]
        => Privileged session to {host} is [refused|denied] with {code} even though the request \
            is green.
        name change [after marriage|], login still old
        => My old surname is still the user name everywhere, [HR changed it|changed in HR] {n} \
            weeks ago.
        MFA prompt [comes every {n} minutes|all day]
        => {thing} asks for the second factor at [every|each] click, [remember me|trust this \
            device] has no effect.
        single sign-on [forgets me|asks again]
        => Single sign-on [drops|forgets] me whenever I switch from the laptop to the phone.
        [kiosk|shared] account asks for personal code in {site}
        => The shared [shop floor|reception] account is now asked for a personal [code|phone], \
            nobody owns it.
        vpn [asks twice|rejects token], network ok
        => The tunnel comes up to the token question, then the directory says {code}, the network \
            [part|side] is fine.
        access review [mail|task] for people I do not know
        => I am to [confirm|review] the rights of {n} people in {plat}, [none|most] of them not \
            in {dept}.
    """),
    details=expand("""
        [User id|Login|Account] is {user}.
        [Reset|Changed] the password [twice|{n} times], [same|no change].
        The second factor [works|is fine] on the web but not [on the phone|at the desk].
        Manager {name} has approved [in writing|already|on {day}].
        {host} and {host2} [show|have] different [group|lockout] data.
        Access review says [keep|remove], owner is {name}.
    """),
    logs=expand("""
        {ts} {host} [idp] WARN bind refused user={user} reason={code} tries={n}
        {ts} {host} [sso] ERROR assertion rejected audience={plat} code={code}
        {code}: sign-in blocked, factor not registered ({user})
        {ts} lockout source={host2} account={user} count={n}
        {ts} {host} sync group=gg-{plat}-users added=0 skipped={big} {code}
    """),
    asks=expand("""
        [Please|Kindly] unlock {user} [and tell me on the phone|].
        Please reset my [second factor|MFA] [so I can register again|].
        Please give {name} the same [roles|rights] as {name2}.
        Can you [withdraw|remove] the [role|group] [today|before the audit]?
    """),
)

HARDWARE = Area(
    name="Workplace Hardware",
    nick="the laptop shop",
    near=("Telephony", "Printing", "Email & Collaboration", "Network Operations"),
    things=("Slate 14 laptop", "Brick dock", "Fernview monitor", "Lumo webcam", "Pico thin client"),
    roles=("ws", "nb", "kiosk"),
    codes=("POST", "HWD"),
    topics=topics("""
        laptop [dead|will not start|does not boot] {when}
        => The laptop [does not turn on|stays dark], only the [white|orange] light blinks [{n} \
            times|].
        {thing} [makes screens go black|kills both screens]
        => When I put it on the {thing} both screens go [black|to sleep] and the fan [howls|spins \
            up].
        battery [swollen|bent|lifts touchpad]
        => The battery is [bent|swollen] and the touchpad [lifts|no longer clicks].
        {asset} [dropped|screen cracked|hinge broken]
        => I [dropped|knocked over] {asset} and the [glass|hinge|corner] is [cracked|broken].
        blue screen [after docking|during calls|{code}]
        => Blue screen with {code} [twice|{n} times] a day, mostly when [undocking|I join a \
            meeting].
        [no boot device|disk noise] {asset}
        => It says no boot device, the disk [makes a ticking noise|is not seen].
        [wrong keyboard|no charger] for {name}
        => {name} got [a machine without a charger|the wrong keyboard layout].
        {thing} room {room} [no power|pink|gone]
        => {thing} in room {room} [is gone|has no power|shows a pink picture].
        dock loses [network|lan] when touched
        => The docking station loses the network [plug|port] every time somebody touches the \
            table, on wifi it is fine.
        headset jack [crackles|one ear only]
        => The headset is fine on my phone but the laptop jack [crackles|only gives one ear].
        laptop [slow|very slow], mail takes minutes
        => The laptop is so slow that even the mail program needs {n} minutes, on a loan machine \
            mail is fast.
        keyboard [types twice|wrong letters|keys stuck]
        => The password is right on the web, but the laptop keyboard types [another \
            letter|doubles] when I log in.
        usb ports [dead|left side]
        => USB ports [on the left|] do not [give power|find the label printer], with another PC \
            the printer prints.
        scanner gun gate {n} [does not charge|loose]
        => Scanner gun at gate {n} [does not charge|falls off the cradle].
        recovery key [asked|wanted] at every start
        => After the bios update {asset} asks for the recovery key at [each|every] start.
        [order|request] for {n} [monitors|docks|mice] {dept}
        => We need {n} [sets|pieces] for {dept} in {site}, cost centre {big}[, old ones can go \
            back|].
        fan [very loud|never stops] on {asset}
        => The fan [runs|blows] all day, even with [only mail open|nothing open], colleagues \
            complain.
        replacement for {asset} [out of warranty|due]
        => {asset} is [four|five] years old and [out of warranty|on the list], when do I get the \
            new one?
        thin client in {site} [shows logo only|black]
        => The thin client at counter {n} [stays at the logo|restarts in a loop], session server \
            is fine for others.
        camera [upside down|covered|not detected]
        => The camera picture is [upside down|grey], in {oplat} and everywhere else too.
        [coffee|water] over keyboard
        => [Coffee|Water] went over {asset}, it still runs but [keys stick|the screen flickers].
    """),
    details=expand("""
        [Asset tag|Sticker] is {asset}[, model {thing}|].
        Warranty [ends|ended] {day}, bought with the {dept} batch.
        I tried [another cable|a different dock|the power drain trick], no [luck|change].
        [Loan machine|Spare] would [do|help] for now.
        The device is [at my desk in {site}|in locker {n}|at reception].
        Bios is [{n} versions behind|current], driver pack from {day}.
    """),
    logs=expand("""
        {code} memory slot {n} not present, press F2
        {ts} {host} kernel-power unexpected shutdown, bugcheck {code}
        {ts} {host} dock firmware 1.{n} display link lost port={n}
        {ts} {asset} battery wear {pct}% design capacity low
        {ts} {host} disk smart attribute {n} failing now ({code})
    """),
    asks=expand("""
        Please [swap|replace] [it|the device] [this week|asap|].
        Please send a [charger|dock|mouse] to {site}, room {room}.
        Can somebody [come by|look at it] at my desk [after {time}|]?
        Please arrange [pick-up|repair] and a loan [machine|laptop].
    """),
)

EMAIL = Area(
    name="Email & Collaboration",
    nick="the mail team",
    near=("Identity & Access", "Security Incident Response", "Telephony", "Storage & Backup"),
    things=("Courier mail", "Commons chat", "Roundtable", "Sharedeck", "Courier webmail"),
    roles=("mx", "msg", "col"),
    codes=("SMTQ", "CLB"),
    topics=topics("""
        mails [not arriving|bounce {code}] [supplier|customer]
        => Mails to [our supplier|the customer|our bank] come back with {code}.
        [outbox stuck|mail stuck in outbox]
        => The outbox [keeps|holds] {n} messages and [sending|the sync] never ends.
        shared mailbox [{dept}|] [gone|not visible]
        => The shared mailbox of {dept} [vanished|is gone] from my folder list.
        [meeting|calendar] [one hour off|wrong time]
        => [Invitations|Meetings] from {name} show up [one hour late|on the wrong day] in my \
            calendar.
        {thing} channel [disappeared|empty]
        => In {thing} the channel for {plat} [is empty|lost its history], files included.
        external guests cannot [join|come in]
        => External people [wait in the lobby|get kicked out] and nobody can let them in.
        distribution list {dept} [needs new owner|old people]
        => The distribution list still contains [people who left|{n} leavers] and the owner is \
            unknown.
        {plat} notifications [in junk|a day late]
        => Notification mails from {plat} [land in junk|arrive a day late], other mail is \
            [fine|normal].
        payslip mails [not received|missing in inbox]
        => Payslip mails from the HR system [reach|get to] some of us only, the rest never see \
            them in the inbox.
        scan mail never arrives
        => The scan-to-mail of the copier sends, but the message [never arrives|is held] in the \
            mailbox.
        room {room} [double booked|accepts two meetings]
        => Room {room} accepts two meetings [at once|for the same hour].
        alias of {name} [old|to be moved]
        => Password mails from access management go to the old address of {name}, alias must move.
        signature [twice|without logo]
        => My signature [loses the logo|is added twice] when I answer from the phone.
        inbox rules [run twice|stopped]
        => Rules I made [run twice|stopped running] and everything stays in the inbox.
        screen sharing freezes {thing}
        => Screen sharing in {thing} freezes after {n} minutes while the voice goes on.
        out of office of leaver {name} [still on|wrong]
        => The absence note of {name}, who left, still [answers|goes to] customers, [please take \
            it off|mails should go to me].
        mailbox [full|over quota], cannot send
        => My mailbox is at {pct} percent [again|], I can receive but not send.
        attachments [stripped|removed] since {day}
        => Drawings from suppliers arrive without the attachment, a [text|note] with {code} is in \
            place of it.
        auto-forward [to private mail|] [blocked|stopped]
        => The forward from the old {plat} address [stopped|bounces], customers still write there.
        [rename|new] shared mailbox for {plat} project
        => We need a mailbox for the {plat} project, members {name} and {name2}, [send as|read] \
            rights.
        search [finds nothing|only recent mails]
        => Search in the mailbox finds nothing older than {n} weeks, the mails are there when I \
            scroll.
    """),
    details=expand("""
        Sent at {time}, not there [yet|even now].
        [Webmail|The phone app] shows it, the desktop program does not.
        Message trace [shows|says] deferred on {host}.
        Owner of the [list|mailbox] should be {name}.
        Quota is [{n} GB|at {pct} percent].
        Happens with [all recipients|external addresses only].
    """),
    logs=expand("""
        {ts} {host} smtp 4{n} deferred {code} queue={big}
        Remote server returned: {code} mailbox unavailable for {user}
        {ts} {host} transport rule {n} dropped attachment size={big}k
        {ts} {host} calendar sync conflict item={big} owner={user}
        {ts} {host} store mount failed mdb{n} {code}
    """),
    asks=expand("""
        Please [trace|find] the message [of {time}|].
        Please add {name} to the [list|mailbox|channel].
        Please [restore|bring back] the [folder|channel].
        Can you raise the [quota|size limit] [for {dept}|]?
    """),
)

NETWORK = Area(
    name="Network Operations",
    nick="the network guys",
    near=("Cloud Infrastructure", "Telephony", "Security Incident Response", "Identity & Access"),
    things=("Tunnelway VPN", "Sable switch", "Wispnet wifi", "Gatepost proxy", "Fathom firewall"),
    roles=("sw", "fw", "rtr"),
    codes=("NET", "VPNE"),
    topics=topics("""
        [no network|network down] in {site} [floor {n}|building {n}|]
        => The whole [floor|corridor|building] is offline, cable and wifi [both|alike].
        VPN [disconnects|drops|error {code}]
        => VPN connects, [then drops|and falls over] after {n} minutes [with {code}|].
        [packet loss|ping loss] to {ip}
        => Ping from {host} to {ip} loses [{pct} percent|every third packet].
        {thing} rebooted [at {time}|], ports down
        => {thing} [restarted|rebooted] by itself at {time} and [half the ports|some uplinks] \
            stayed down.
        DNS [wrong|old] address for {plat}
        => The name of {plat} [resolves|points] to {ip}, that [machine|address] was retired {n} \
            weeks ago.
        firewall [rule|opening] for {plat} {host}
        => We need port {big} open from {host} to {host2} for {plat}.
        phones floor {n} no address
        => The phones on floor {n} get no address, the PCs next to them do, looks like the voice \
            vlan.
        database port [dies|blocked] from {site}
        => The database answers locally on its server, from {site} the packets [vanish|die] at \
            the firewall.
        printers not reachable across router
        => The printers are pingable from their own floor but not across the router.
        line full at night [{site}|]
        => Backup traffic [fills|eats] the line at night and nobody else gets through.
        tunnel up, no internal [sites|address]
        => From home I reach the internet but not [a single|any] internal address, the tunnel \
            says connected.
        proxy [cuts downloads|stops at {n} MB]
        => The proxy [cuts|ends] every download at {n} MB.
        wifi [drops|roaming] [room {room}|when walking]
        => Roaming between access points [kills|drops] the call, on cable all is well.
        IP [conflict|address] {ip} used twice
        => Two machines fight over {ip}, each works [every other minute|in turns].
        route to cloud [gone|missing] since {chg}
        => Route to the cloud subnet is gone since {chg}, the subnet itself is healthy.
        new [patch|lan] port in room {room}
        => Sockets {n} and the next one in room {room} are [dead|not patched], [two|new] desks go \
            there {day}.
        guest wifi [voucher expired|login page missing]
        => Visitors [get|see] no login page on the guest wifi[, the voucher is new|].
        internet line {site} [down|on backup]
        => {site} runs on the [backup line|mobile router] {when}, the main line is [dark|flapping].
        [switch|router] {host} [fan alarm|not answering]
        => {host} [reports a fan|does not answer ping] but still [forwards|switches], closet in \
            room {room}.
        cameras need [own vlan|network] {site}
        => {n} cameras at the gate come {day} and need their own vlan and [addresses|power over \
            cable].
        proxy [blocks|times out on] supplier page
        => The page of our [supplier|bank] opens at home, here {thing} says {code}.
    """),
    details=expand("""
        Trace stops at {ip}[, hop {n}|].
        [Uplink|Port] {n} on {host} shows [errors|crc errors|half duplex].
        On cable [fine|ok], on wifi [not|never].
        The [provider|carrier] has ticket {big}[, no estimate|].
        Latency [jumps|goes] from {n} to {big} ms.
        Source {ip}, target {host2}, tcp {big}.
    """),
    logs=expand("""
        {ts} {host} %LINK-{n} port gi1/0/{n} changed state to down
        {ts} {host} tunnel peer={ip} dropped reason={code} idle={big}
        {ts} {host} deny tcp {ip} -> {host2}:{big} rule=default
        {ts} {host} bgp neighbor {ip} down hold timer, {code}
        {ts} {host} dhcp pool exhausted scope={ip}/24
    """),
    asks=expand("""
        Please check the [line|port|uplink] [in {site}|].
        Please open the [port|rule] [until {day}|].
        Please [patch|activate] the socket in room {room}.
        Can you [reset|bounce] the [tunnel|port]?
    """),
)

ERP = Area(
    name="ERP / SAP Finance",
    nick="the SAP people",
    near=("HR Systems", "Database Platform", "Identity & Access", "Printing"),
    things=("SAP FI", "Ledgerline", "Procura", "Vendora", "Tallyclose"),
    roles=("erp", "app", "fin"),
    codes=("FIN", "MSGNO"),
    topics=topics("""
        [invoice|posting] {big} [blocked|cannot be posted]
        => Posting invoice {big} ends with {code} and the [document|item] is parked.
        payment run [aborted|failed|missing suppliers]
        => The payment run for [suppliers|{site}] [stopped|aborted] after {n} items.
        [month|period|quarter] end [stuck|cannot close] [{plat}|]
        => We cannot [close|open] the period, {thing} says [{n} items open|previous step running].
        purchase order {big} [not released|lost approver]
        => The approver of order {big} left and the workflow [goes nowhere|returns to sender].
        balance [differs|wrong] [{thing}|{plat}]
        => The balance in {thing} differs from [{plat}|the bank file] by {big} [EUR|USD|GBP].
        vendor [paid twice|duplicate]
        => The vendor [was paid twice|has two numbers], {big} and another one.
        asset {big} depreciation [wrong|on wrong cost centre]
        => Depreciation for asset {big} [ran|booked] on the wrong cost centre.
        journal upload [rejected|hangs]
        => Journal upload from the spreadsheet [is rejected|hangs] at line {n}.
        invoice print shows wrong amount
        => The invoice form prints, but the amount on the paper is [doubled|without tax], the \
            print preview in SAP has it too.
        payroll journal [in wrong period|posts nowhere]
        => Payroll journal arrived from HR, but it posts to a closed [period|cost centre] in the \
            ledger.
        {plat} dispatcher [hangs|full]
        => The database is up according to its team, the dispatcher of {plat} [hangs|has no free \
            process] anyway.
        tax code [gone|overwritten] after {chg}
        => The transport of {chg} [overwrote|removed] our tax table in production.
        inbound invoices [twice|not booked]
        => Supplier mails the invoices correctly, the inbound workflow books them [twice|to \
            nowhere].
        transaction [locked|blocked] by user {user}
        => Users {user} and others hold a lock on the material, no one is in the transaction.
        exchange rate [missing|not updated] for {day}
        => The exchange rate of {day} is [missing|yesterday's], all foreign postings [are \
            wrong|stop].
        {thing} [dump|short dump] in {dept}
        => {thing} ends with a short dump as soon as [I press save|the list has more than {n} \
            lines].
        vendor [bank data|master] change {big}
        => The bank details of vendor {big} must [change|be unlocked] before the next run on {day}.
        [goods receipt|delivery] {big} does not match invoice
        => Goods receipt {big} says {n} pieces, the invoice more, and [tolerance|matching] blocks \
            it.
        dunning letters to customers who paid
        => Customers got a dunning letter although they paid on {day}, the payment sits \
            [unallocated|in the wrong account].
        report {thing} shows [zero|old figures]
        => The report in {thing} shows [zero|last month] for {dept}, postings are [there|visible \
            one by one].
        budget [check|transfer] error {code}
        => Transfer of budget from {dept} ends with {code}, availability control [is wrong|counts \
            twice].
    """),
    details=expand("""
        Company code {n}00, [fiscal year|period] {n}.
        The [document|message] number is {code}.
        Amount about {big} [thousand|] EUR.
        [Auditors|Controlling] ask for it [today|by {day}].
        Works in the [quality|test] system, fails in production.
        Transaction was fine [before|until] {chg}.
    """),
    logs=expand("""
        {code} {n}: account {big} requires assignment to a co object
        {ts} {host} dispatcher wp{n} PRIV user={user} report=Z{big}
        {ts} {host} runtime error MOVE_TO_LIT_{n} program Z{plat} {code}
        {ts} {host} idoc {big} status 51 {code} not posted
        {ts} {host} job FI_CLOSE_{n} cancelled after {big} s
    """),
    asks=expand("""
        Please [release|unblock] the [document|invoice|run].
        Please [reopen|open] the period for {dept}.
        Please correct the [master data|workflow|tax code].
        Can you [kill|end] the lock of {user}?
    """),
)

DATABASE = Area(
    name="Database Platform",
    nick="the DBAs",
    near=("Storage & Backup", "Cloud Infrastructure", "ERP / SAP Finance"),
    things=("Quarry cluster", "Oradeck", "Postern", "Tablemill", "Quarry listener"),
    roles=("db-ora", "db-pg", "db-ms"),
    codes=("QDB", "SQLX"),
    topics=topics("""
        {plat} database [slow after backup|slow]
        => The {plat} database is slow after the backup, [statements|queries] that took seconds \
            take {n} minutes.
        [blocking|waiting] sessions {plat}
        => Sessions [pile up|queue], the top one waits for a row lock [held by {user}|].
        too many connections [{big}|] {host}
        => {host} [refuses|does not take] new connections, we count {big}.
        query [plan changed|runs {n} minutes]
        => The execution plan of the nightly [load|report] changed [{when}|] and it reads the \
            whole table.
        replica [lag|behind] {plat}
        => The standby {host2} is {big} seconds behind [and growing|].
        tablespace [full|{pct}% used] {host}
        => Tablespace of {plat} is at {pct} percent and [cannot extend|autoextend is off].
        deadlock[s|] [on {plat}|] [{when}|]
        => Insert ends with {code} [unique key|deadlock], retry [helps|does not help].
        {thing} failover, jobs on old node
        => After failover to {host2} the jobs still [write to|look for] the old node.
        index [corrupt|invalid] {plat}
        => An index on the order table is [invalid|corrupt], counts differ with and without it.
        commit [slow|waits] on idle machine
        => The cloud machine is idle, cpu at {n} percent, yet the commit waits [for log sync|in \
            the engine].
        [log|read] waits {host}, disks ok
        => The disks are fast says storage, the engine still reports [read|log] waits on {host}.
        instance does not open after restore
        => The restore came back from tape fine, but the instance does not open, it wants [more \
            recovery|{code}].
        [restore|copy] of {plat} schema to test
        => We need the {plat} schema [refreshed|copied] to test with masked names.
        SAP [frozen|hourglass], blocker in database
        => SAP shows an hourglass because one [update|statement] blocks everybody in the database.
        [grant|select] lost on {plat} view
        => The read user of the HR reports lost its grant on the view {when}.
        listener [down|refuses] on {host}
        => The listener on {host} answers {code}, the instance behind it is [open|running].
        archive log [area|] full, {plat} stopped
        => {plat} stopped because the archive area is full, the log backup ran [late|not at all].
        statistics job [killed|stale] {plat}
        => Statistics of the big tables are from {day}, the job was killed by {user}.
        patch {thing} [window|move to next release]
        => We would like to patch {thing} on {host} on {day}, the vendor asks for it before \
            {plat} goes on.
        rows [missing|doubled] in {plat} after {chg}
        => After {chg} the key of the order table is gone and {big} rows are there twice.
        sequence [at limit|exhausted] {plat}
        => The sequence for the order number is at its limit, inserts [fail|fail with {code}].
    """),
    details=expand("""
        Statement id [{big}|see attachment], [full scan|no index].
        Instance {plat}P{n} on {host}.
        Wait event is [row lock|log sync|buffer busy].
        Grew by {n} GB since {day}.
        [Primary|Standby] is {host}, [standby|other node] {host2}.
        Killed session {big}, it came [back|straight back].
    """),
    logs=expand("""
        {ts} {host} {code}: snapshot too old, segment {n}
        {ts} {host} FATAL remaining slots reserved ({code}) max={big}
        {ts} {host} deadlock detected sid={n} waits sid={big} on tx
        {ts} {host} checkpoint not complete, log {n} sequence {big}
        {code} could not extend segment in {plat}_DATA by {big}
    """),
    asks=expand("""
        Please [kill|end] the blocking session.
        Please [extend|add] the tablespace [by {n} GB|].
        Please [rebuild|check] the [index|statistics].
        Can a DBA [look at|tune] the statement?
    """),
)

CLOUD = Area(
    name="Cloud Infrastructure",
    nick="the cloud team",
    near=("Network Operations", "Database Platform", "Storage & Backup", "Identity & Access"),
    things=("Skyforge", "Podyard", "Stackpilot", "Bluebarn", "Skyforge console"),
    roles=("vm", "k8s", "lb"),
    codes=("SKY", "POD"),
    topics=topics("""
        pods of {plat} [crash looping|restarting]
        => The pods of {plat} restart every {n} minutes [with {code}|].
        VM {host} [stopped|unreachable|gone]
        => VM {host} [went away|was deallocated] at {time} and does not come back.
        load balancer [sends to dead node|502] {plat}
        => The load balancer sends [half of|some] requests to a dead node, users see 502.
        {thing} [quota|limit] reached for {plat}
        => {thing} refuses to create the machine, quota [used up|{n} of {n}].
        deploy to {thing} [stuck|rolled back]
        => The pipeline deploys, but the new version [never gets traffic|rolls back].
        {plat} [autoscaling|scale out] [does not work|too late]
        => Scaling out starts [after|when] the peak is over, {plat} [crawls|times out] until then.
        node {host} [not ready|drained]
        => Node {host} is not ready, kubelet [silent|complains about disk pressure].
        cost [jump|alarm] in {plat} account
        => The account of {plat} cost {big} [EUR|USD] last week, usually [a third|half].
        guest frozen, database VM {host}
        => The database server is a VM in our subscription, the guest is frozen and the console \
            [is black|hangs].
        snapshot of {host} [empty|not usable]
        => Backups of the VM finish, but the snapshot we roll back from in {thing} gives an empty \
            machine.
        ingress of {plat} serves old certificate
        => The certificate is valid, the ingress of {plat} serves the old one [until \
            restart|anyway].
        security group [reset|wrong] on {host}
        => The network path is open, the security group on {host} was [reset|replaced] by the \
            template.
        stack [update fails|state locked] {plat}
        => Stack update fails with {code}, state is locked by {user}.
        [stage|test] environment {plat} down
        => Test environment has been [down|paused] {when}, nobody switched it off on purpose.
        image pull [error|backoff] {plat}
        => The image of {plat} cannot be pulled, registry in {site} answers {code}.
        new subscription for {dept} [project|]
        => {dept} starts a project on {plat} and needs [a subscription|an account] with budget \
            {big} a month.
        resize {host} before {day}
        => {host} has {n} GB of memory and needs double before the {plat} go-live on {day}.
        secret [rotation|change] breaks {plat}
        => The secret was rotated {day}, the {plat} pods still mount the old one and [cannot log \
            in to the database|get {code}].
        {thing} region {site} [degraded|outage]
        => {thing} shows the region [yellow|degraded], our {plat} machines there [do not \
            start|start slowly].
        bucket of {plat} [public|not readable]
        => The bucket for {plat} [lost its policy|is not readable from the app], files are in it.
        cron [job|container] of {plat} [not started|twice]
        => The scheduled container for {plat} was started [twice|not at all] at {time}, {thing} \
            shows {code}.
    """),
    details=expand("""
        Namespace {plat}-prod, cluster {host}.
        Subscription [id|] {big}, region {site}.
        Last deploy was {chg} at {time}.
        Limits are {n} cores, {n} GB.
        The health probe [answers|fails] on port {big}.
        The template has not changed since {day}.
    """),
    logs=expand("""
        {ts} {host} pod/{plat}-{big} CrashLoop restarts={n} reason={code}
        {ts} {host} evicted: node low on ephemeral storage
        {ts} {host} provisioning failed {code} sku not available
        {ts} {host} upstream reset before headers status=502 pool={plat}
        {ts} plan: {n} to add, 0 to change, {n} to destroy, lock id {big}
    """),
    asks=expand("""
        Please [start|redeploy|resize] the VM.
        Please raise the [quota|limit] to {n}.
        Please [drain|replace] the node.
        Can you [release|break] the state lock?
    """),
)

PRINTING = Area(
    name="Printing",
    nick="the print service",
    near=("Workplace Hardware", "ERP / SAP Finance", "Network Operations"),
    things=("Inkwell", "Followprint", "Plotmaster", "Labelwright", "Inkwell queue"),
    roles=("prt", "mfp", "lbl"),
    codes=("PRN", "SPL"),
    topics=topics("""
        queue {host} [stuck|full]
        => The queue on {host} holds {n} jobs and [none|nothing] comes out.
        paper jam {host} [again|]
        => Paper jam in tray {n} [but there is no paper|again and again].
        prints [streaky|pink|grey stripe] [{host}|]
        => Everything is printed with a [grey stripe|pink tint] [on the left|].
        badge not recognised at copier [{room}|]
        => I hold my badge to the copier and it says [unknown card|{code}].
        scan to folder [not working|error {code}]
        => Scan to folder ends with {code}, scan to mail [works|too].
        [labels|shipping labels] [shifted|unreadable] {site}
        => Labels are shifted by {n} mm and the scanner [in the warehouse|] cannot read the code.
        print from {plat} [garbage|empty pages]
        => Documents from {plat} come out as [signs and squares|{n} empty pages].
        {thing} releases, tray stays empty
        => {thing} releases the job, the display says [printing|done], the tray stays empty.
        invoices cut off on paper
        => The invoices are right in SAP, on paper the last [line|column] is cut off.
        payslips [left|lying] in the tray
        => Payslips were left in the tray because the copier in {site} woke up [an hour|{n} \
            minutes] later.
        print driver asks for admin
        => The driver asks for the admin password at each [start|page].
        no printers [in list|] on floor {n}
        => The laptop is fine on another floor, here the printer list is [empty|full of old queues].
        plotter [tears|drags] sheet
        => The plotter [drags|tears] the sheet after {n} cm.
        pictures missing on prints
        => Mail attachments print without pictures, [other|normal] documents print well.
        page counter [wrong|differs] {host}
        => The counter on the machine and the bill differ by {big} pages.
        [toner|cartridge] [empty|low] room {room}
        => Toner is [empty|at {n} percent] and the cupboard [too|is empty], we print {big} pages \
            a day.
        duplex [ignored|gone] since driver change
        => Since the driver change everything is single sided, the choice is [grey|missing].
        new printer for {dept} [{site}|]
        => {dept} moves to room {room} and needs a printer there, [colour|black and white is \
            enough].
        default printer changes [every day|by itself]
        => Each morning another printer is my default, [today|yesterday] one in {site}.
        staples [empty|jam] {host}
        => The finisher of {host} [is out of staples|folds the corner], {code} on the display.
        cheque printer [skips|eats paper]
        => The cheque printer in {dept} [skips a number|eats the first sheet], we must void {n} \
            forms.
    """),
    details=expand("""
        Serial [number|] {big}[, model on the sticker unreadable|].
        Toner [changed|shaken] already.
        Switched off and on, [same|then one page, then nothing].
        The other copier in room {room} [works|is far away].
        Driver version {n}.0 since {day}.
        Tray {n}, paper [A3|A4].
    """),
    logs=expand("""
        {ts} {host} spool job {big} held {code}
        {ts} {host} snmp alert cover open tray={n} pages={big}
        {ts} {host} release failed card={big} user={user} {code}
        {code} render error page {n} of {n}
        {ts} {host} fuser temperature low, engine stopped
    """),
    asks=expand("""
        Please [clear|restart] the queue.
        Please send [toner|staples|a technician] to room {room}.
        Please add the printer {host} for {dept}.
        Can someone [align|calibrate] the [labels|tray]?
    """),
)

TELEPHONY = Area(
    name="Telephony",
    nick="the phone team",
    near=("Network Operations", "Workplace Hardware", "Email & Collaboration"),
    things=("Deskline", "Hollo softphone", "Queuecast", "Voxgate", "Deskline handset"),
    roles=("pbx", "sbc", "ivr"),
    codes=("SIP", "VOX"),
    topics=topics("""
        hotline [{dept}|] [callers dropped|silence]
        => When customers call the hotline they hear [music for ever|two rings and silence].
        extension {big} [rings wrong desk|to move]
        => My extension {big} [rings|goes] at [{name}'s desk|the wrong desk].
        {thing} [not registered|error {code}]
        => {thing} stays on registering [and shows {code}|], headset and laptop are [new|fine].
        call quality [bad|robot voice] {site}
        => Callers [sound like robots|drop after {n} seconds] [when it is busy|].
        voicemail light [stays on|wrong]
        => The voicemail light is on but there is [nothing|no message].
        calls [abroad|international] [fail|blocked]
        => Calls abroad end with [{code}|a busy tone], local ones [work|go through].
        agents {dept} [not ringing|stuck on break]
        => The agents of {dept} are logged in, the queue thinks they are [away|on a break].
        lift phone {site} [dead|no line]
        => The lift phone in {site} has no line[, inspection is on {day}|].
        sim of {name} [not active|no data]
        => The new sim of {name} [has no data|is not active].
        announcement [wrong|to be changed] {dept}
        => The announcement still says we are closed for [the holiday|inventory].
        one way audio [{site}|]
        => One way audio only, they hear me and I hear [nothing|them after {n} seconds], network \
            says no loss.
        voicemail mails [empty|without sound]
        => Voicemail as mail arrives, but the sound in it is [empty|cut].
        handset room {room} does not register
        => The handset has power from the switch and an address, still it does not [register|find \
            the exchange].
        number of leaver rings everywhere
        => Number of a person who left HR rings on {n} desks.
        call recording [missing|off] for {day}
        => Recording of the calls of {day} [is missing|stops at {time}].
        new [number|direct line] for {name}
        => {name} needs a direct line in {site}, [the old one of {name2} is free|block {big} if \
            possible].
        conference phone {room} [mute|no power]
        => The conference phone in room {room} [stays mute|has no power], the screen next to it \
            [runs|works].
        number {big} [shows as spam|anonymous]
        => When we call customers our number shows as [spam|anonymous], they do not pick up.
        emergency call [test failed|not possible] {site}
        => At the test in {site} the emergency number [was busy|went to the wrong county].
        fax line [still needed|dead]
        => The fax of {dept} [is dead|does not send], the authority accepts only fax.
        mobile [blocked|roaming bill] {name}
        => The mobile of {name} is blocked abroad, [limit|roaming] of {big} EUR reached.
    """),
    details=expand("""
        Extension [is|:] {big}.
        Called from [mobile|outside] at {time}.
        Number shown is [wrong|{big}].
        Trunk [{n}|in {site}] has {n} channels.
        [Desk phone|Handset] in room {room}, [reset twice|no change].
        Supervisor is {name}.
    """),
    logs=expand("""
        {ts} {host} invite ext={big} rejected 403 {code}
        {ts} {host} rtp no packets from {ip} for {n} s
        {ts} {host} trunk {n} channel state=blocked {code}
        {ts} {host} queue={dept} waiting={n} longest={big}s
        {ts} {host} register expired ext={big} contact={ip}
    """),
    asks=expand("""
        Please [forward|move] the extension to {name}.
        Please [reset|change] the voicemail [pin|text].
        Please [test|check] the [trunk|hotline].
        Can you [activate|order] a [number|sim] for {name}?
    """),
)

STORAGE = Area(
    name="Storage & Backup",
    nick="the backup team",
    near=("Database Platform", "Cloud Infrastructure", "Email & Collaboration"),
    things=("Attic", "Silo filer", "Coldshelf", "Tapehouse", "Attic agent"),
    roles=("nas", "bkp", "san"),
    codes=("BKP", "FSX"),
    topics=topics("""
        backup of [the|] {plat} database [fails|failed]
        => The backup of the {plat} database [fails|stops] [at {pct} percent|with {code}], the \
            database itself is [up|healthy].
        restore [folder|file] of {day} please
        => Somebody [deleted|moved] the folder [of {dept}|], we need it as of {day}.
        share {dept} full
        => The share is full, {n} MB left, and [nobody|no one] can save.
        lun [path|] lost on {host}
        => {host} lost [one|two] of four paths to the [lun|array].
        {thing} [skipped clients|job missed]
        => {thing} skipped {n} clients last night [without a reason|, {code}].
        tape [stuck|drive error {code}]
        => The tape [is stuck|will not eject] in drive {n}.
        replication {site} [stopped|{n} hours behind]
        => Replication between {site} and the second site is {n} hours behind.
        {host} disk [failed|amber]
        => A disk in shelf {n} is [amber|failed], no spare [left|inside].
        snapshots fill volume {host}
        => Snapshots eat {pct} percent of the volume and the filer [warns|stops].
        test restore {plat} [empty|wrong day]
        => The test restore of {plat} gives files of [zero bytes|the wrong day].
        mail archive volume read only
        => The mail archive is on our volume and the volume is read only, mail itself flows.
        cloud copy [hangs at {pct}%|incomplete]
        => The cloud copy of the backup stays at {pct} percent, the VM it belongs to is running.
        files [locked|cannot be renamed] on {site} share
        => Payroll files on the share can be opened but not [saved|renamed], even as owner.
        backup window [too long|runs into day] {plat}
        => Night backup runs until {time} and slows [everything|the {plat} server] down.
        retention [wrong|to extend] {plat}
        => Legal wants the {plat} data kept for {n} years, retention says {n} weeks.
        quota [raise|exceeded] for {dept} share
        => {dept} is over its quota by {n} GB, the videos of the {plat} training [must stay|can \
            go later].
        archive [of {plat}|] not readable
        => The archive of {plat} from {n} years ago [opens with {code}|cannot be read], the \
            auditor waits.
        agent [missing|outdated] on {host}
        => {host} was built {day} and has no {thing}, so it was never [saved|backed up].
        old laptop data [wanted|to copy] {asset}
        => {name} needs the files of {asset}, the last copy should be in {thing}.
        share slow [in {site}|after move]
        => Opening a folder on the share takes {n} seconds since the move to {host}, ping is normal.
        log backup [late|missed], {plat} archive grows
        => The log backup of {plat} did not start {day}, the DBAs say their side [only waits|is \
            full soon].
    """),
    details=expand("""
        Path is \\\\{host}\\{dept}.
        Last good [copy|run] was {day}.
        Volume [vol{n}|] at {pct} percent.
        Job id {big}, policy {plat}-daily.
        [About|Roughly] {big} files.
        The array serial is {big}, support contract [runs|valid].
    """),
    logs=expand("""
        {ts} {host} job {big} ended status=partial {code} client={host2}
        {ts} {host} volume vol{n} {pct}% full, autogrow off
        {ts} {host} multipath lun {n} path failed remaining=1
        {ts} {host} media {big} write error drive={n} {code}
        {ts} {host} snapmirror lag {big} min source={host2}
    """),
    asks=expand("""
        Please [restore|bring back] the [folder|files] [to the old place|].
        Please [rerun|start] the [job|backup].
        Please [extend|grow] the [volume|share] by {n} GB.
        Can you [replace|order] the disk?
    """),
)

HR = Area(
    name="HR Systems",
    nick="HR IT",
    near=("Identity & Access", "ERP / SAP Finance", "Email & Collaboration"),
    things=("Peoplebase", "Paywell", "Clockin", "Talentry", "Leavebook"),
    roles=("hr", "pay", "ess"),
    codes=("HRX", "PAY"),
    topics=topics("""
        payslip [missing|empty] [of {day}|]
        => My payslip [for last month|of {day}] is [missing|empty] in {thing}.
        [leave|vacation] balance [wrong|gone]
        => {thing} shows {n} days of leave, [it should be|I count] more.
        time [bookings|stamps] lost [{day}|]
        => The clock terminal [swallows|does not save] the [morning|late shift] bookings.
        {name} not in {thing}
        => {name} started on {day} and is still not in {thing}, so [no account gets \
            created|everything waits].
        {thing} [shows old manager|wrong manager]
        => My manager in {thing} is {name}, who left [{n} months ago|].
        [overtime|shift bonus] not paid {dept}
        => The shift bonus for {dept} [was not paid|is half].
        applicants [cannot upload|see error] {site}
        => Applicants for {site} get [a white page|{code}] when they upload.
        appraisal form [locked|closed] for {name}
        => The appraisal form for {name} is closed [although|but] nobody signed.
        [sick note|certificate] upload fails {code}
        => Upload of the sick note ends with {code}, [phone|browser] same.
        working time counts [double|zero]
        => Working time of [part timers|students] counts [double|zero] since {chg}.
        surname old in employee record
        => The surname was changed in the login, the employee record still has the old one.
        wrong tax class on slip
        => Payroll posted well in SAP, but the slip of {name} shows [last year's|someone else's] \
            tax class.
        leave approve button [error|does nothing]
        => The leave mail reaches the manager, the approve button in it gives [{code}|nothing].
        badge opens door, no time booked
        => Badge opens the door, the time booking from the same badge is [missing|at midnight].
        reference letter [blank name|wrong name]
        => Certificates print fine, the name on the reference letter is [blank|the wrong one].
        org chart [wrong|{dept} missing]
        => In the org chart {dept} hangs under [a closed unit|the wrong director] {when}.
        terminal at gate {n} [offline|does not book]
        => The terminal at gate {n} shows [a clock only|{code}], {big} people walked past it today.
        job posting [not visible|expired] {site}
        => The posting for {site} is [not visible outside|expired] although it runs until {day}.
        bank details [change|rejected] payroll
        => I changed my bank in {thing}, it was [rejected with {code}|taken back overnight].
        contract end date [wrong|missing] {name}
        => The contract of {name} was extended, {thing} still ends it on {day} and [will close \
            the account|sends reminders].
        training record [missing|duplicate]
        => The safety training of {day} is [missing|there twice] for {n} people in {dept}.
    """),
    details=expand("""
        Personnel number {big}.
        [Works council|Payroll] needs it by {day}.
        Contract is [part time {pct}%|full time].
        Manager should be {name}.
        Cost centre of the [employee|team] is {big}.
        Pay day is {day}.
    """),
    logs=expand("""
        {ts} {host} import pernr={big} skipped {code} no org unit
        {code} wage type {big} not permitted on {day}
        {ts} {host} terminal {n} offline bookings buffered={big}
        {ts} {host} payroll run area={n} rejected persons={n}
        {ts} {host} document service upload {code} size={big}
    """),
    asks=expand("""
        Please correct the [record|balance|manager].
        Please [release|rerun] the payroll for {name}.
        Please open the form [again|for {dept}].
        Can you add {name} before {day}?
    """),
)

SECURITY = Area(
    name="Security Incident Response",
    nick="the security desk",
    near=("Email & Collaboration", "Identity & Access", "Network Operations"),
    things=("Warden agent", "Lanternlog", "Watchfire", "Sievegate", "Warden console"),
    roles=("siem", "edr", "sec"),
    codes=("SOC", "THR"),
    topics=topics("""
        [phishing|suspicious] mail clicked
        => I clicked the link in the mail about [parcels|a voicemail|bonus] and typed my password.
        {thing} alert {code} on {host}
        => {thing} reports {code} on {host}, process [unknown|unsigned].
        [laptop|bag] stolen [{site}|with {asset}]
        => My bag with {asset} was stolen [on the train|from the car] {day}.
        strange logins {user} [from abroad|at night]
        => There are logins of {user} from [two countries|{ip}] within {n} minutes.
        [ransom note|encrypted files] on {host}
        => Files on {host} have a new ending and there is a [note|text file] asking for money.
        caller pretended to be [IT|from helpdesk]
        => Someone called {dept}, said he is from IT and asked for [a code|remote control].
        customer list sent to wrong address
        => A list with {big} customers went to the wrong [supplier|address].
        {host} [beaconing|talks] to {ip}
        => {host} talks to {ip} every {n} seconds [since|from] {day}.
        leak of {plat} [key|credentials]
        => A key of {plat} was pushed to a public [place|repository] by {user}.
        unknown admin account on {host}
        => There is an account on {host} nobody created, with admin rights.
        fake invoice [paid|with new bank account]
        => The invoice mail looks like our supplier, the bank account in it is new and finance \
            [paid|nearly paid].
        backup copies deleted [by whom|at {time}]
        => The backup server itself deletes copies since {time}, nobody in the backup team \
            started that.
        MFA prompts at night
        => MFA prompts [came|keep coming] at night and I pressed accept [once|by mistake].
        [false positive|blocked] {thing} {plat}
        => {thing} [blocks|quarantined] the {plat} installer, we believe it is clean.
        odd traffic out of {host}
        => The firewall is fine, the traffic out of {host} is not ours and looks like \
            [mining|data theft].
        usb stick found [in {site}|car park]
        => I found a usb stick in the [car park|canteen] labelled bonus {dept}, [did not plug \
            it|plugged it, sorry].
        vulnerability [on|in] {plat} [internet facing|]
        => A partner writes that {plat} [shows|gives away] {big} records without login, with a \
            proof.
        port scan from {ip}
        => Somebody scans {host} and {host2} from {ip}, {n} ports a second.
        CEO [asks for|wants] gift cards
        => I got a chat from our CEO about gift cards, [the number is foreign|answered already].
        personal data [on open share|visible to all]
        => A scan of {n} passports lies where [everybody|all of {site}] can open it, since {day}.
        macro [opened|enabled] in invoice
        => I opened the [invoice|delivery note] of {name} and enabled the content, then a \
            [black|small] window flashed.
    """),
    details=expand("""
        [I have|User has] [unplugged|switched off] the machine.
        The [sender|link] was {name}, mail of {time}.
        Hash and headers attached.
        Password was changed at {time}.
        {n} colleagues got the same [mail|call].
        Severity in {thing} is [high|medium], rule {big}.
    """),
    logs=expand("""
        {ts} {host} detect {code} proc=svch0st.exe parent=winword action=block
        {ts} {host} beacon dst={ip} interval={n}s score={pct}
        {ts} impossible travel user={user} src={ip} {code}
        {ts} {host} quarantine file=inv_{big}.js user={user}
        {ts} {host} new local admin added by SYSTEM, {code}
    """),
    asks=expand("""
        Please [isolate|check] the machine.
        Please [wipe|block] the device [remotely|].
        Please [tell|advise] what we may [say|do] [now|].
        Can you [block|analyse] the [sender|domain|address]?
    """),
)

AREAS: tuple[Area, ...] = (
    IAM, HARDWARE, EMAIL, NETWORK, ERP, DATABASE, CLOUD, PRINTING, TELEPHONY, STORAGE, HR, SECURITY,
)  # fmt: skip

OVERLAPS: tuple[Overlap, ...] = (
    Overlap(
        frozenset((IAM.name, NETWORK.name, ERP.name, HR.name, EMAIL.name, CLOUD.name)),
        expand("""
            [cannot|can't|unable to] [log in|login|sign in] [to {plat}|{when}|]
            [login|sign in|logon] [not possible|fails|loops] [{code}|{plat}|]
            [access|login] denied [{plat}|{thing}]
            [thrown|kicked] out of {plat} after {n} min
            {thing}: [invalid credentials|user unknown]
            [cannot|can not] get into {plat} from home
        """),
        expand("""
            I [cannot|can't] log in [to {plat}|] {when}, [it says {code}|wrong password|just a \
                white page].
            [Login|Sign in] to {thing} [fails|is refused], [colleagues|others] next to me get in.
            Password is [correct|changed yesterday] but {plat} throws me out [with {code}|].
            From [home|the hotel|{site}] I [do not get|can not get] into {plat}, in the office it \
                works.
            After entering user and password [the page reloads|nothing happens]. [Message {code}.|]
            {name} and [me|I] both get access denied on {plat}[, {code}|].
        """),
    ),
    Overlap(
        frozenset((DATABASE.name, NETWORK.name, CLOUD.name, ERP.name, STORAGE.name, EMAIL.name)),
        expand("""
            {plat} [very slow|slow|extremely slow] [{when}|in {site}|]
            [timeout|timeouts] in {plat} [{code}|]
            performance [bad|problem] {plat} {site}
            everything hangs [around {time}|{when}]
            {plat} [freezes|needs minutes] after {chg}
        """),
        expand("""
            {plat} is [very|terribly|] slow {when}, [every click|each save] takes {n} seconds.
            Users in {site} [report|complain about] timeouts in {plat}[, {code}|].
            [Around|Daily at] {time} everything [hangs|freezes] for {n} minutes, then it is \
                [fine|normal].
            Response time of {plat} went from {n} to {big} ms[, seen on {host}|].
            The hourglass turns and turns, [sometimes|after a while] {code} comes up.
        """),
    ),
    Overlap(
        frozenset((STORAGE.name, DATABASE.name, EMAIL.name, CLOUD.name, PRINTING.name)),
        expand("""
            [no space left|disk full|out of space] [{host}|{plat}|]
            {plat} [at {pct}%|full again]
            [space|capacity] warning {pct}% [{host}|]
        """),
        expand("""
            [No space left|Out of space], {plat} [stopped|refuses to write] [{when}|].
            It is at {pct} percent and [growing|full by {day}][, see {host}|].
            We [cleaned up|deleted old stuff] and a day later it is full again.
            {thing} says [limit reached|full], nobody knows what [fills|grows in] it.
        """),
    ),
    Overlap(
        frozenset((SECURITY.name, CLOUD.name, NETWORK.name, EMAIL.name, IAM.name, PRINTING.name)),
        expand("""
            certificate [expired|expires {day}|warning] {plat}
            [not secure|untrusted] warning [{plat}|{host}|]
            [ssl|tls] error [{code}|{host}]
        """),
        expand("""
            The browser says the [page|connection] of {plat} is not [secure|trusted] {when}.
            Certificate on {host} [expired|runs out] {day}.
            {thing} [refuses|warns about] the certificate[, {code}|].
            Is this warning about {plat} [normal|real] or [should I worry|an attack]?
        """),
    ),
    Overlap(
        frozenset((TELEPHONY.name, HARDWARE.name, EMAIL.name, NETWORK.name)),
        expand("""
            [no sound|no audio|bad sound] [in calls|in meeting|{when}]
            [headset|microphone] [not working|dead] [again|]
            nobody can hear me [in calls|]
            [echo|noise] in [calls|room {room}]
        """),
        expand("""
            In [calls|meetings] nobody hears me, [I hear them well|sometimes it comes back].
            The sound [breaks up|stutters|is gone] {when}[, {thing}|].
            Picture ok, voice [not|with long delay], [tried two headsets|restarted twice].
            Calls in room {room} have an echo[ since {thing} was set up|].
        """),
    ),
    Overlap(
        frozenset((SECURITY.name, EMAIL.name, IAM.name, TELEPHONY.name)),
        expand("""
            [strange|odd|weird] [message|mail|call] [from {name}|received|]
            is this [real|genuine|spam]?
            [spam|junk] [again|{n} a day|wave]
            somebody uses my [name|number|address]
        """),
        expand("""
            I [get|got] a [strange|odd] message [from {name}|in my name], is it [real|ours]?
            Since {day} I receive {n} of these [a day|per hour], it [annoys|gets worse].
            Customers say they are contacted in my name, [I did nothing|not by me].
            It [asks|wants] me to confirm my [account|number] [in {thing}|].
        """),
    ),
    Overlap(
        frozenset((HR.name, IAM.name, HARDWARE.name, TELEPHONY.name, EMAIL.name)),
        expand("""
            new [joiner|starter|colleague] {name} [{day}|in {dept}]
            onboarding {name} [not complete|something missing]
            {name} cannot start [work|{day}]
        """),
        expand("""
            {name} [starts|started] in {dept} on {day} and [something is missing|is not ready]\
                [: {thing}|].
            For the new colleague we still [wait for|miss] {thing}.
            First day of {name} and [nothing is ready|half is missing], [who does that|can you \
                check]?
        """),
    ),
    Overlap(
        frozenset((HR.name, IAM.name, HARDWARE.name, TELEPHONY.name, NETWORK.name, PRINTING.name)),
        expand("""
            [leaver|exit] {name} {dept}
            [move|transfer] of {name} to {site}
            {dept} [moves|moving] to room {room}
        """),
        expand("""
            {name} leaves {dept} {day}, please [do the needful|close everything on your side].
            {name} [moves|is moved] from {dept} to {site} on {day}, [what do you need|please \
                prepare]\
                [, mainly {thing}|].
            Move of {dept} on {day}: [your part|{thing}] [is open|must be done before].
        """),
    ),
    Overlap(
        frozenset((PRINTING.name, HR.name, ERP.name, HARDWARE.name, NETWORK.name)),
        expand("""
            cannot print [payslips|invoices|labels|delivery notes]
            [print|printing] from {plat} [not possible|wrong]
            [form|document] [empty|cut off|wrong layout] {plat}
        """),
        expand("""
            We cannot print [the invoices|payslips|the delivery notes] {when}[, {code}|].
            The [form|sheet] from {plat} is [empty|wrong], [looks like|could be] {thing}.
            Printing from [my|this] PC [fails|does nothing], [from another one|next desk] it is ok.
        """),
    ),
    Overlap(
        frozenset((ERP.name, DATABASE.name, STORAGE.name, CLOUD.name, HR.name)),
        expand("""
            [nightly|overnight|batch] job [failed|aborted|late] [{plat}|]
            {plat} [interface|load|transfer] [incomplete|missing|double]
            job {big} [red|cancelled] [{code}|]
            [data|figures] of {day} missing in {plat}
        """),
        expand("""
            The nightly job of {plat} [failed|did not finish] [at {time}|with {code}].
            [Data|Figures] of {day} are missing in {plat}, [file|input] was there.
            The [load|interface] ran twice and [now everything is double|stopped at {n} percent].
            Job {big} on {host} is red [again|{when}].
        """),
    ),
    Overlap(
        frozenset((IAM.name, STORAGE.name, ERP.name, HR.name, DATABASE.name, EMAIL.name)),
        expand("""
            [access|permission|rights] [to|for] {plat} [needed|pls|missing]
            [authorization|permission] missing [{code}|{plat}|]
            please give {name} access [like {name2}|]
            [lost|no] access to {dept} [folder|data|]
        """),
        expand("""
            I need access to {plat}, [same as {name}|read only is enough].
            [No authorization|Permission denied] when I open {plat}[, {code}|].
            Since {day} I can only [read|view], before I could change [everything|all].
            {name} should [see|get into] the {dept} [data|area][ in {thing}|].
        """),
    ),
    Overlap(
        frozenset((NETWORK.name, DATABASE.name, CLOUD.name, STORAGE.name, SECURITY.name,
                   TELEPHONY.name, PRINTING.name)),
        expand("""
            [ALERT|ALARM|PROBLEM]: {host} [down|critical|unreachable]
            [monitoring|event] {code} {host} [{pct}%|]
            {host} [no response|heartbeat lost] {n} min
        """),
        expand("""
            Automatic event: {host} [state CRITICAL|no heartbeat], [{code}|since {ts}], service \
                {plat}.
            Monitoring [shows|sees] {host} red, [users notice nothing yet|{plat} affected].
            Event {code} raised {n} times in {n} minutes, threshold {pct}.
        """),
    ),
)  # fmt: skip

# Two products in one sentence: which is ill and which is only nearby lies in the order of words.
CAUSE_TITLES = expand("""
    {thing} [broken|dead|not working] [after|since] {othing} [update|change|upgrade]
    since {othing} [update|change], {thing} [not working|broken|strange]
    {thing} [does not talk to|rejects|no longer sees] {othing}
    [problem|trouble] with {thing}, {othing} ok
    {othing} ok but {thing} [not|fails|{code}]
    [not {othing} but|it is] {thing}
""")
CAUSE_SYMPTOMS = expand("""
    {thing} [stopped working|hangs|answers {code}] [after|since] the {othing} \
        [upgrade|maintenance|change].
    [Since|After] {othing} was [patched|moved|upgraded], {thing} [does not respond|is \
        broken|gives {code}].
    {othing} [runs|is fine|is ok], it is {thing} that [fails|hangs|is down].
    {thing} no longer [talks to|reaches|gets data from] {othing}, [they see nothing \
        wrong|{othing} is green].
    [We|I] opened this for {othing} first, [wrong|sorry], it is {thing}.
    {othing} [logs|shows] {ocode}, but that [follows|comes] from {thing} [being down|which is ill].
    {onick} [found|says] the reason is {thing}, {othing} only [shows|suffers from] it.
""")
CONFUSERS = expand("""
    {othing} [is fine|works|looks ok], [so it is not that|just to say|if that helps].
    I [first thought|thought at first] it was {othing} but [that is not it|no].
    [FYI|Info:] {onick} [already checked|had a look], [not their side|nothing found there].
    {inc} was with {onick}, [they bounced it back|closed as not theirs].
    Not sure if related, we had {ocode} on {ohost} [last week|{day}], that one is closed.
    [Started|Began] the day after the {othing} [upgrade|patch|change], might be \
        [coincidence|nothing].
    No idea if you or {onick} are the right ones, sorry.
    PS the {othing} problem of {day} is solved, thanks.
    [Before|Usually] {onick} did this for us, they [sent|pointed] me to you.
    We also use {othing} and {oplat}, both [ok|without problem].
    On {oplat} [everything is normal|no such thing].
    My [colleague|boss] says ask {onick}, but I [doubt it|do not think so].
""")
VAGUE_TITLES = expand("""
    [need help|help needed|help please] [urgent|asap|]
    [URGENT|VERY URGENT|IMPORTANT]!!
    [problem|issue|trouble] with {plat} [in {site}|again|]
    [does not work|not working|broken] [again|{when}|anymore]
    [fwd|RE|FW]: [see below|{inc}|your call]
    {plat} [{site}|question|error|]
    [same issue|same as] {inc}
    please call me back [{name}|]
    [error message|strange error] {when}
    what happened [since {day}|after {chg}]?
""")
VAGUE_SYMPTOMS = expand("""
    It [does not work|is not working|stopped] again, same as {inc}.
    [As discussed|As agreed] on the phone with {name}, please [have a look|take over].
    Something is wrong {when}, [no idea what|see screenshot].
    This [happens|comes back] every {day} and nobody [fixes|solves] it.
    {plat} has a problem [in {site}|], I can not describe it better.
    Please see [below|the mail of {name}|attached].
    Still [open|not solved], [any news|who is on it]?
""")
EVIDENCE = expand("""
    It is [about|with] {thing}.
    [Affected|Concerned]: {thing}.
    The screen shows {code}.
    [Machine|Host|Server] is {host}.
    [Error|Code] {code}[, see screenshot|].
    {host} and {host2} [affected|too].
    In {thing} I see [nothing|only {code}].
""")
LOCUS = expand("""
    [This is|It is] {plat} in {site}.
    [System|Service]: {plat} {region}.
    [Affected|Scope]: {plat} / {site}.
    {region} users of {plat} [only|].
    We [are|sit] in {site} and use {plat}[ {region}|].
    {plat} ({region}), [production|live system].
    The {plat} [people|users] in {site} [wait|are affected].
""")
GREETINGS = expand("""
    [Hi|Hello|Hey],
    [Hi|Hello|Dear] [team|all|colleagues|service desk],
    Good [morning|afternoon|day],
    [Hi|Hello] {name},
    Dear [Sir or Madam|support team],
    [Guten Tag|Hallo zusammen|Moin|Servus],
    [Bonjour|Salut|Bonjour à tous],
    [Hola|Buenos días|Buongiorno|Ciao a tutti|Olá|Bom dia],
    [Dzień dobry|Hej|God morgen|Goedemorgen|Merhaba|Namaste],
""")
STEPS = expand("""
    [Restarted|Rebooted] [twice|{n} times|], [no change|same].
    [I have|We] already tried: [restart|log off], [other user|other room], [cache|cookies] cleared.
    Tried so far:\\n- restart\\n- [other account|colleague's desk]\\n- [waited an hour|prayed]\\n
    Checked the [intranet page|how-to], step {n} [is not there|looks different here].
    The [old|usual] trick from {inc} [did not help|helped for a day].
    On the phone your colleague [reset something|took over my screen], then it [came back|was gone \
        for an hour].
""")
BACKGROUND = expand("""
    We noticed it when {name} from {dept} wanted to finish [the week|an order] and [could \
        not|gave up].
    Last time ({inc}) it took [two days|a week] until [someone|the right team] picked it up, \
        [please not again|so I write early].
    I am in meetings until {time}, after that you reach me under {tel}, [or ask|otherwise] {name2}.
    [It may|Might] have to do with {chg}, [the note said no impact|nobody told us].
    It is [always|mostly] the same: first [slow|odd], then [nothing|an error], then it is back as \
        if \
        nothing happened.
    {name} says it [was the same|happened] in {site} [in spring|{n} weeks ago] and somebody there \
        knew the answer.
    For us in {dept} this is [not a small thing|more than annoying], we have {n} people on it and \
        [temps|trainees] who know no other way.
    I am writing for {name}, who [has no access|is on the shop floor], so [please|] call there.
""")
IMPACT = {
    "P1": expand("""
        [Production|The whole site|{site}] is [standing still|down], {n} [trucks|lines] wait!
        All {big} users [affected|cannot work], [board is informed|customers call already].
        Nobody in {dept} can work, this is [critical|an emergency].
        We lose about {big} EUR [an hour|per hour].
    """),
    "P2": expand("""
        [About|Roughly] {n} people in {dept} [cannot work|are blocked].
        Deadline is [today {time}|{day}], please hurry.
        Whole {dept} is [affected|hit], workaround [none|only paper].
        This [blocks|stops] our [month end|delivery|go-live].
    """),
    "P3": expand("""
        Only me [affected|so far], but I need it [daily|for work].
        I can work around it, [slowly|with help of {name}].
        It [costs|takes] me {n} minutes [every time|a day].
        [One|A] colleague has it too.
        Would be good to have it by {day}.
    """),
    "P4": expand("""
        Not urgent[ at all|], when you have time.
        [Just|Only] a question, [no rush|no hurry].
        [Nice to have|Low priority], [thanks|take your time].
        For [planning|info] only.
    """),
}
ASKS = expand("""
    Please [check|have a look|advise] [as soon as possible|].
    Can [you|someone] [look into|check] this [please|today|]?
    [Please call|Call] me on {tel}[, not by mail|].
    What [can|should] I do?
    [Thanks for|Need] a quick [fix|reply].
    Please [assign|forward] to the right team.
""")
SIGNOFFS = expand("""
    [Thanks|Thank you|Many thanks|Thx], {who}
    [Best regards|Kind regards|Regards|BR]\\n{who}\\n{dept}, {site}
    [Cheers|Rgds], {who}
    {who}\\n[ext.|Tel.] {tel}, {site}
    [Danke im Voraus|Viele Grüße|Merci d'avance|Cordialement|Gracias|Grazie], {who}
    Sent from my [phone|tablet]
    [Mit freundlichen Grüßen|Med venlig hilsen|Saludos]\\n{who}\\n{dept} {site}
""")
FORWARDS = expand("""
    -----Original Message-----\\nFrom: {name}\\nTo: Service Desk\\nSubject: [RE|FW]: {plat}\\n
    ---- Forwarded by {name} on {ts} ----\\n
    On {day}, {name} wrote:\\n> [please open a ticket for this|any idea?|is that yours?]\\n
    From: {name} ({dept})\\nSent: {ts}\\n
""")
WHEN = expand("""
    since [this morning|yesterday|last week|monday|lunch|the weekend]
    since [about|] {time}
    since {chg}
    after [the update|the restart|the weekend|my leave]
    for {n} days [now|]
    [again|once more]
    every [day|morning] at {time}
    on and off since {day}
""")

# What people in a hurry shorten. First letters are left out where both cases are meant.
ABBREVIATIONS = (
    ("Please ", "Pls "), ("please ", "pls "), ("assword", "w"), ("as soon as possible", "asap"),
    ("roblem", "rob"), ("inutes", "ins"), (" you ", " u "), ("ccount", "cct"), (" and ", " & "),
    (" message", " msg"), ("anager", "gr"), (" department", " dept"), (" because ", " bc "),
)  # fmt: skip

PLATFORMS = (
    "Orion", "Kestrel", "Marlin", "Halyard", "Tamarind", "Basalt", "Corvid", "Dovetail", "Ember",
    "Fjord", "Garnet", "Hemlock", "Isthmus", "Jackdaw", "Lodestar", "Nettle", "Osprey", "Pelican",
    "Quillon", "Rowan", "Saffron", "Thistle", "Umbra", "Vantage", "Wicket",
)  # fmt: skip

REGIONS = (
    Region("UK", ("ldn", "lds"), ("London", "Leeds", "Cardiff")),
    Region("EU North", ("sto", "ham"), ("Stockholm", "Hamburg", "Aarhus")),
    Region("EU South", ("mil", "sev"), ("Milan", "Seville", "Porto")),
    Region("EU Central", ("vie", "prg"), ("Vienna", "Prague", "Poznan")),
    Region("US East", ("bos", "atl"), ("Boston", "Atlanta", "Raleigh")),
    Region("US West", ("sea", "phx"), ("Seattle", "Phoenix", "Fresno")),
    Region("LATAM", ("bog", "cwb"), ("Bogota", "Curitiba", "Puebla")),
    Region("Gulf", ("dxb", "mct"), ("Dubai", "Muscat", "Dammam")),
    Region("India", ("pnq", "maa"), ("Pune", "Chennai", "Indore")),
    Region("APAC", ("sin", "akl"), ("Singapore", "Auckland", "Osaka")),
)
HEAD_OFFICE = Region("Group", ("hq", "grp"), ("Basel", "head office", "Campus 1"))

DEPARTMENTS = (
    "Finance", "Logistics", "Purchasing", "Sales", "Legal", "Controlling", "Warehouse", "Marketing",
    "Quality", "Production", "Customer Care", "Treasury", "Facilities", "Research", "Planning",
)  # fmt: skip
DAYS = (
    "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday", "12 March",
    "3 May", "28.02", "01/06", "the 14th", "the 1st", "15.11", "2 Dec", "Aug 9", "22 July",
)  # fmt: skip
FIRST_NAMES = (
    "Amara", "Birgit", "Callum", "Dmitri", "Elena", "Farid", "Greta", "Hassan", "Ines", "Jonas",
    "Keiko", "Lucia", "Mateusz", "Nadia", "Owen", "Priya", "Quentin", "Rosa", "Sanjay", "Tilda",
    "Umar", "Vera", "Wiebke", "Xavier", "Yusuf", "Zofia", "Anil", "Bea", "Chen", "Dara",
)  # fmt: skip
LAST_NAMES = (
    "Abbot", "Brandt", "Castillo", "Dahl", "Eriksen", "Ferrante", "Gupta", "Holm", "Iyer", "Jansen",
    "Kowal", "Lindqvist", "Moreau", "Novak", "Okafor", "Petrov", "Quist", "Rahman", "Sato", "Tran",
    "Ulrich", "Vargas", "Weiss", "Yilmaz", "Zeman", "Marsh", "Bellamy", "Costa", "Duarte", "Fell",
)  # fmt: skip

ALL_PLACES = tuple(
    (platform, region) for platform in PLATFORMS for region in (*REGIONS, HEAD_OFFICE)
)


@dataclass(frozen=True)
class Team:
    """One team: its name as a label, and what its tickets are made of.

    `places` are the (platform, region) pairs that are its to mend, `others` the areas its tickets
    mention in passing, near ones more often. `taste`, in [0, 1), is where in each list of phrases
    the team's favourites begin, as a share of the list.
    """

    label: str
    area: Area
    places: tuple[tuple[str, Region], ...]
    others: tuple[Area, ...]
    overlaps: tuple[Overlap, ...]
    regional: bool
    taste: float


def teams(classes: int) -> tuple[Team, ...]:
    """The first `classes` teams, at most 3,000; each has its name whatever `classes` is.

    The first dozen are general: they mend what no regional team of their area has taken, so their
    places do depend on `classes`.
    """
    width = len(AREAS)
    owned = {k: _own_place(k) for k in range(width, classes)}
    made = []
    for k in range(classes):
        area = AREAS[k % width]
        if k < width:
            taken = {owned[other] for other in range(k + width, classes, width)}
            places = tuple(place for place in ALL_PLACES if place not in taken)
            label = area.name
        else:
            places = (owned[k],)
            label = f"{area.name} - {places[0][0]} {places[0][1].name}"
        near = tuple(other for other in AREAS if other.name in area.near)
        far = tuple(other for other in AREAS if other is not area)
        overlaps = tuple(overlap for overlap in OVERLAPS if area.name in overlap.areas)
        # Steps of the golden section: no two teams close in number begin at the same phrase.
        taste = k // width * 0.381966 % 1.0
        made.append(Team(label, area, places, near * 3 + far, overlaps, k >= width, taste))
    return tuple(made)


def _own_place(k: int) -> tuple[str, Region]:
    """The platform and region of regional team k: no two teams of one area share a pair."""
    # Both move with k, so that a desk of few regional teams still has several regions.
    step, area = k // len(AREAS) - 1, k % len(AREAS)
    platform = (step + 7 * area) % len(PLATFORMS)
    region = (step // len(PLATFORMS) + platform) % len(REGIONS)
    return PLATFORMS[platform], REGIONS[region]


def neighbours(classes: int) -> list[list[int]]:
    """For each team, twelve numbers of teams its tickets plausibly stray to: never its own.

    Most teams have fewer such neighbours, who then come up several times, for a square table.
    """
    width = len(AREAS)
    number = {area.name: at for at, area in enumerate(AREAS)}
    found = []
    for k in range(classes):
        family = [k % width, k - width, k + width]
        family += [number[name] for name in AREAS[k % width].near]
        usable = [team for team in dict.fromkeys(family) if 0 <= team < classes and team != k]
        usable = usable or [(k + 1) % classes]
        found.append([usable[at % len(usable)] for at in range(width)])
    return found


Draw = Callable[[], float]
"""The next number in [0, 1) of one ticket."""
_T = TypeVar("_T")


def one(options: Sequence[_T], at: float) -> _T:
    """The option that lies `at`, in [0, 1), of the way through."""
    return options[int(at * len(options))]


class Slots(dict[str, str]):
    """The facts of one ticket by slot name, each drawn when a phrase first asks for it.

    A fact stays the same in a ticket, so a host in the title is the host in the log; small numbers
    and seconds alone are forgotten by `next_phrase`. Slots that begin with o belong to another
    area, named in passing. `minute` is when the ticket was opened, as text up to the minute.
    """

    def __init__(self, team: Team, minute: str, draw: Draw) -> None:
        super().__init__()
        self.minute = minute
        self.draw, self.area, self.other = draw, team.area, one(team.others, draw())
        self["plat"], self.region = one(team.places, draw())

    def next_phrase(self) -> None:
        self.pop("n", None)
        self.pop("ts", None)

    def __missing__(self, slot: str) -> str:
        fact = self[slot] = MAKERS[slot](self, self.draw)
        return fact


def _host(region: Region, area: Area, draw: Draw) -> str:
    return f"{one(region.prefixes, draw())}-{one(area.roles, draw())}-{int(draw() * 400):03d}"


def _code(area: Area, draw: Draw) -> str:
    # Eighty codes to a family: a code is met again, and so worth learning.
    return f"{one(area.codes, draw())}-{1000 + int(draw() * 80) * 37}"


def _person(_: Slots, draw: Draw) -> str:
    return f"{one(FIRST_NAMES, draw())} {one(LAST_NAMES, draw())}"


MAKERS: dict[str, Callable[[Slots, Draw], str]] = {
    "region": lambda s, d: s.region.name,
    "site": lambda s, d: one(s.region.sites, d()),
    "thing": lambda s, d: one(s.area.things, d()),
    "host": lambda s, d: _host(s.region, s.area, d),
    "host2": lambda s, d: _host(s.region, s.area, d),
    "code": lambda s, d: _code(s.area, d),
    "othing": lambda s, d: one(s.other.things, d()),
    "onick": lambda s, d: s.other.nick,
    "oplat": lambda s, d: one(PLATFORMS, d()),
    "ohost": lambda s, d: _host(one(ALL_PLACES, d())[1], s.other, d),
    "ocode": lambda s, d: _code(s.other, d),
    "when": lambda s, d: one(one(WHEN, d()), d()).format_map(s),
    "who": _person,
    "name": _person,
    "name2": _person,
    "user": lambda s, d: (
        f"{one(FIRST_NAMES, d())[0]}{one(LAST_NAMES, d())[:4]}{int(d() * 90)}".lower()
    ),
    "dept": lambda s, d: one(DEPARTMENTS, d()),
    "day": lambda s, d: one(DAYS, d()),
    "time": lambda s, d: f"{6 + int(d() * 14)}:{int(d() * 60):02d}",
    "chg": lambda s, d: f"CHG-{10000 + int(d() * 90000)}",
    "inc": lambda s, d: f"INC{int(d() * 900000):07d}",
    "ts": lambda s, d: f"{s.minute}:{int(d() * 60):02d}",
    "n": lambda s, d: str(2 + int(d() * 38)),
    "big": lambda s, d: str(100 + int(d() * 8900)),
    "tel": lambda s, d: str(2000 + int(d() * 7000)),
    "pct": lambda s, d: str(60 + int(d() * 40)),
    "ip": lambda s, d: f"10.{int(d() * 250)}.{int(d() * 250)}.{int(d() * 250)}",
    "room": lambda s, d: f"{int(d() * 8)}.{int(d() * 40):02d}",
    "asset": lambda s, d: f"WS-{10000 + int(d() * 80000)}",
}
