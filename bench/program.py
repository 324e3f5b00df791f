"""What the whole-program benchmark has Python do: objects, dictionaries, text, regular expressions, JSON and arithmetic."""
import collections
import hashlib
import json
import re


class Account:
    def __init__(self, name, balance):
        self.name = name
        self.balance = balance
        self.log = []

    def move(self, amount):
        self.balance += amount
        if len(self.log) < 50:
            self.log.append(amount)
        return self.balance


def accounts(rounds):
    people = [Account(f"person-{i}", i * 10) for i in range(200)]
    seed = 12345
    for _ in range(rounds):
        seed = (seed * 1103515245 + 12345) % 2147483648
        giver, taker = people[seed % 200], people[seed // 200 % 200]
        amount = seed % 97
        giver.move(-amount)
        taker.move(amount)
    return [(p.name, p.balance, sum(p.log)) for p in people]


def words(rounds):
    text = " ".join(f"word{i * 7919 % 1000} is {i % 13}" for i in range(rounds))
    counts = collections.Counter(re.findall(r"word(\d+)", text))
    upper = re.sub(r"is (\d+)", lambda m: "was " + str(int(m.group(1)) + 1), text)
    return counts.most_common(20), hashlib.sha256(upper.encode()).hexdigest()


def sieve(limit):
    flags = [True] * limit
    for i in range(2, int(limit ** 0.5) + 1):
        if flags[i]:
            for j in range(i * i, limit, i):
                flags[j] = False
    return sum(flags) - 2


def documents(rounds):
    data = {f"key{i}": {"list": list(range(i % 20)), "half": i / 2, "text": "x" * (i % 30)} for i in range(rounds)}
    again = json.loads(json.dumps(data, sort_keys=True))
    return sorted((v["half"], k) for k, v in again.items())[:10]


print(accounts(120000), words(20000), sieve(300000), documents(3000))
print(sum(i * i % 7 for i in range(300000)), 3 ** 20000 % (10 ** 40))
