/* A plan in the making, and the memory it points to. */
#ifndef TUN2SOCKS_SPAWN_PLAN_H
#define TUN2SOCKS_SPAWN_PLAN_H

#include "addon.h"
#include "supervisor.h"

struct block;

struct draft {
	napi_env env;
	struct spawn_plan plan;
	struct failure failure;
	struct block *blocks;
	char device[96];
	char name[16];
	char uid_map[40];
	char gid_map[40];
};

/* False: an exception is pending, or draft->failure is set. Either way draft_discard() follows. */
bool draft_plan(struct draft *draft, napi_env env, napi_value options);
/* Frees what the plan points to; a clone has its own copy. */
void draft_discard(struct draft *draft);

#endif
