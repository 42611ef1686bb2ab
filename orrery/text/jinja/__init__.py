"""The template language of chat templates (Jinja), run by an interpreter of our own.

A chat template is a program from a stranger's file. Here it is parsed by jinja2 and then evaluated node by node, over plain
values only: strings, numbers, lists, dicts. No Python attribute is ever looked up, no code is generated, every loop, call and
string is charged to a budget, and each character knows whether the template wrote it or a message did (`marked.py`).
"""
