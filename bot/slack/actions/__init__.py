"""What stands behind buttons, forms and shortcuts.

Each file may have BUTTONS and FORMS (id → what is done, in one transaction) and OPENS (button id → a form to open).
"""
