"""What the board says, in the language of who reads it: English sentences, and what each is in Chinese."""

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

LANGUAGES = {"en": "en", "zh": "zh-CN"}
"""Languages of the page, and how HTML calls them."""
COOKIE = "language"
"""Keeps what was chosen."""
LANGUAGE: ContextVar[str] = ContextVar("language", default="en")
"""The language in which the request of now is answered."""
CHINESE = {
    "Runs in {name}": "{name} 下的训练",
    "Skip to the curves": "跳到曲线",
    "Language": "语言",
    "Runs": "训练",
    "Find": "查找",
    "name, recipe, data, state": "名称、配方、数据、状态",
    "Order": "排序",
    "newest first": "最新在前",
    "by name": "按名称",
    "best first": "最好在前",
    "by state": "按状态",
    "Show": "显示",
    "Curves": "曲线",
    "Smoothing": "平滑",
    "none": "无",
    "mean of {share}%": "{share}% 的平均",
    "Along": "横轴",
    "epochs": "轮次",
    "steps": "步",
    "epoch": "轮次",
    "step": "步",
    "logarithmic losses and rates": "损失与学习率取对数",
    "Copy this view's address": "复制此视图的地址",
    "copied": "已复制",
    "copy it from the address bar": "请从地址栏复制",
    "Accuracy": "准确率",
    "Settings": "设置",
    "Confusions and surest mistakes": "混淆与最自信的错误",
    "Read from the run folders as they are; nothing is written there.": "内容直接读自训练目录；不向其中写入任何东西。",
    "The board's server doesn't answer; what is shown may be old. It is asked again by itself.": "服务没有响应，显示的内容可能已过时。页面会自动重试。",
    "1 run": "1 次训练",
    "{count} runs": "{count} 次训练",
    "running": "训练中",
    "finished": "已完成",
    "interrupted": "已中断",
    "diverged": "已发散",
    "Still reading: {size} MB of records to go.": "仍在读取：还有 {size} MB 记录。",
    "Table of runs": "训练列表",
    "Tick up to {most} to see them side by side; without a tick the newest are shown.": "最多勾选 {most} 次训练并排查看；不勾选时显示最新的。",
    "{most} are side by side, no more fit; untick one first": "已并排 {most} 次，放不下更多；请先取消一个",
    "Shown": "显示",
    "run": "训练",
    "state": "状态",
    "done": "进度",
    "best evaluation": "最佳评估",
    "95% interval": "95% 区间",
    "recipe": "配方",
    "Pages of runs": "训练的分页",
    "earlier": "上一页",
    "later": "下一页",
    "page {page} of {pages}": "第 {page} 页，共 {pages} 页",
    "No run fits; clear the search to see all.": "没有符合的训练；清空查找即可看到全部。",
    "No runs yet. {command} begins one; it appears here by itself.": "还没有训练。{command} 开始一次训练；它会自动出现在这里。",
    "Show {title}": "显示 {title}",
    "config.json can't be read": "无法读取 config.json",
    "{step} of {steps} steps": "第 {step} 步，共 {steps} 步",
    "{step} of {steps}": "{step} / {steps}",
    "Nothing recorded yet.": "还没有记录。",
    "Table of results": "结果表",
    "The best evaluation of each run, with the 95% interval (Wilson) for its images; intervals on one scale.": (
        "每次训练的最佳评估，以及针对其图片的 95% 区间（Wilson）；区间用同一刻度。"
    ),
    "best": "最佳",
    "Nothing to compare yet.": "还没有可比较的内容。",
    "setting": "设置",
    "differs: ": "不同：",
    "No settings to show.": "没有可显示的设置。",
    "What differs": "不同之处",
    "These runs have the same settings.": "这些训练的设置相同。",
    "{count} settings": "{count} 项设置",
    "{count} settings that are the same": "{count} 项相同的设置",
    "All settings": "全部设置",
    "What is the same": "相同之处",
    "report": "报告",
    "No report yet: it is written at the end of a run; {command} writes it now": "还没有报告：它在训练结束时写出；{command} 可以现在写出",
    "model": "模型",
    "model of the best evaluation": "最佳评估的模型",
    "{anchor} of {title}": "{title} 的 {anchor}",
    "Choose a run to see what it gets wrong.": "选择一次训练，看看它哪里出错。",
    "{time} left": "还剩 {time}",
    "{low} to {high}": "{low} 到 {high}",
    "on images that it learned from": "用的是它学过的图片",
    "95% interval {low} to {high}": "95% 区间 {low} 到 {high}",
    "{number} s": "{number} 秒",
    "{number} min": "{number} 分",
    "{hours} h {minutes} min": "{hours} 小时 {minutes} 分",
    "Training loss": "训练损失",
    "Validation loss": "验证损失",
    "Validation accuracy": "验证准确率",
    "Mean average precision": "平均精度均值",
    "Training accuracy": "训练准确率",
    "Training F1": "训练 F1",
    "Learning rate": "学习率",
    "{title} over {by}s": "{title}（按{by}）",
    "loss": "损失",
    "at step": "所在步",
    "images": "图片",
    "seen": "已学",
    "a second": "每秒",
    "trained": "训练时间",
    "parameters": "参数量",
}  # fmt: skip


def say(text: str, **values: Any) -> str:
    """Return a sentence in the language of now, with values in its places."""
    found = CHINESE[text] if LANGUAGE.get() == "zh" else text
    return found.format(**values) if values else found


def choose_language(cookies: Mapping[str, str], accepted: str) -> str:
    """Return a reader's language: what was chosen, or else the first that its browser asks for and the page has.

    >>> choose_language({}, "fr, zh-TW;q=0.9, en;q=0.8")
    'zh'
    """
    if cookies.get(COOKIE) in LANGUAGES:
        return cookies[COOKIE]
    asked = (one.strip().partition(";")[0].partition("-")[0].lower() for one in accepted.split(","))
    return next((one for one in asked if one in LANGUAGES), "en")
