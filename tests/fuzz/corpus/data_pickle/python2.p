(lp0
(dp1
S'sent'
p2
S'it\'s \xe9'
p3
sVcafé \u6f22
p4
I1
sa.