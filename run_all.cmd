@echo off
rem Makes .venv where needed, then "orderflow up" with the arguments given. Needs Python 3.11 or later.
setlocal
if not defined PYTHON set "PYTHON=python"
"%PYTHON%" "%~dp0bootstrap.py" -m orderflow up %*
exit /b %ERRORLEVEL%
