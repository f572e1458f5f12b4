# One image for every service: the command picks which (`collector`, `store`, `spillover`, or any other `spillway` command).
ARG SPILLWAY_NODE_IMAGE=node:24-bookworm-slim

FROM ${SPILLWAY_NODE_IMAGE} AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --include=dev
COPY tsconfig.json tsconfig.build.json rolldown.config.mjs ./
COPY libs libs
COPY services services
COPY client client
COPY cli cli
RUN npm run build && npm prune --omit=dev

FROM ${SPILLWAY_NODE_IMAGE}
ENV NODE_ENV=production
WORKDIR /app
COPY --from=build /app/package.json ./
# The program is bundled and does not load these; the licences of what it is made of lie there.
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/dist dist
# A named volume takes the owner and the mode of the directory it is mounted over. The collector spools as `node`, or as a root
# that may do no more than its group.
RUN ln -s /app/dist/cli/main.js /usr/local/bin/spillway \
 && install -d -o node -g node /var/lib/spillway /var/lib/spillway/spill \
 && install -d -o node -g root -m 0770 /var/lib/spillway/spool
USER node
# The flags are those of libs/shared/runtime/node-flags.ts, which says what they are for.
ENTRYPOINT ["node", "--single-threaded-gc", "/app/dist/cli/main.js"]
CMD ["--help"]
