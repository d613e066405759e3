# Every target does its own set-up, from nothing but Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test coverage e2e screenshots bench lint docs docs-serve format clean

run: $(VENV)/.runs
	@exec $(BIN)/python manage.py up

test: $(VENV)/.tests
	$(BIN)/python -m pytest -n 4 --dist worksteal

# Slower than the suite alone, so a target of its own. Worker processes are not measured.
coverage: $(VENV)/.tests
	$(BIN)/python -m coverage run --branch --source=config,reliability,scheduling -m pytest -n 0 -q
	$(BIN)/python -m coverage report --skip-covered --sort=cover

e2e: $(VENV)/.tests
	$(BIN)/python -m pytest -m e2e tests/e2e

screenshots: $(VENV)/.tests
	$(BIN)/python -m pytest -m e2e tests/e2e/pictures.py tests/e2e/outage_pictures.py

bench: $(VENV)/.tests
	$(BIN)/python -m bench

lint: $(VENV)/.tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	HTTPS=true TRUSTED_PROXIES=1 ALLOWED_HOSTS=backstop.example.com DATABASE_URL=postgresql://backstop@db.example.com/backstop \
		N8N_WEBHOOK_URL=https://n8n.example.com/webhook METRICS_TOKEN=checked-by-lint-and-used-nowhere \
		CRON_SECRET=checked-by-lint-and-used-nowhere \
		SECRET_KEY=$$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(64))') \
		$(BIN)/python manage.py check --deploy --fail-level WARNING
	$(BIN)/python manage.py makemigrations --check --dry-run
	$(BIN)/python manage.py spectacular --validate --fail-on-warn --file /dev/null

docs: $(VENV)/.tests
	$(BIN)/python docs/site/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict -f docs/site/mkdocs.yml
	@echo "The site is in .cache/site/, beginning with index.html."

docs-serve: $(VENV)/.tests
	$(BIN)/python docs/site/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve --strict -f docs/site/mkdocs.yml

format: $(VENV)/.tests
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one by PYTHON=…"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runs: requirements.txt $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.tests: requirements-dev.txt $(VENV)/.runs
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

clean:
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache staticfiles
