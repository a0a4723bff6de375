# docker build -t clipsam . && docker run --rm -p 7860:7860 clipsam
FROM python:3.12-slim
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY . .
RUN PIP_NO_CACHE_DIR=1 make .venv/app.installed
EXPOSE 7860
CMD ["make", "app", "HOST=0.0.0.0"]
