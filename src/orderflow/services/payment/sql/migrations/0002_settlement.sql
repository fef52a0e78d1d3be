-- An operator can settle a charge whose outcome the bank does not tell.

INSERT INTO state_transitions (machine, before, event, after) VALUES
    ('payments', 'CHARGING', 'SettledAsCharged', 'CAPTURED'),
    ('payments', 'CHARGING', 'SettledAsNotCharged', 'DECLINED'),
    ('payments', 'UNKNOWN', 'SettledAsCharged', 'CAPTURED'),
    ('payments', 'UNKNOWN', 'SettledAsNotCharged', 'DECLINED');
